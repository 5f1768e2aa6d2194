//! Which of the small security headers are added to a response?
//!
//! Each is set when absent and never overrides the upstream's own. Content-Security-Policy is deliberately not among
//! them: Streamlit's scripts and sockets change with its versions, and a policy that is right today breaks the page
//! tomorrow.

use crate::config::{ConfigError, HeaderValue, SecurityHeadersConfig, Switch};

/// The headers to set when absent, with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SecurityHeaders(Vec<(&'static str, String)>);

impl SecurityHeaders {
    pub(crate) fn read(
        written: Switch<SecurityHeadersConfig>,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let SecurityHeadersConfig {
            referrer_policy,
            x_content_type_options,
            x_frame_options,
        } = match written {
            Switch::Off => return Self::default(),
            Switch::On => SecurityHeadersConfig::default(),
            Switch::With(values) => values,
        };
        let mut read = Vec::new();
        for (name, setting, default, value) in [
            (
                "x-content-type-options",
                "security_headers.x_content_type_options",
                "nosniff",
                x_content_type_options,
            ),
            (
                "x-frame-options",
                "security_headers.x_frame_options",
                "SAMEORIGIN",
                x_frame_options,
            ),
            (
                "referrer-policy",
                "security_headers.referrer_policy",
                "strict-origin-when-cross-origin",
                referrer_policy,
            ),
        ] {
            match value {
                HeaderValue::Off => {}
                HeaderValue::Default => read.push((name, default.to_owned())),
                HeaderValue::Text(value) if is_sendable(&value) => read.push((name, value)),
                HeaderValue::Text(value) => errors.push(ConfigError::HeaderText { setting, value }),
            }
        }
        Self(read)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// Visible ASCII with single spaces inside: what can neither split a response nor change its meaning.
fn is_sendable(value: &str) -> bool {
    !value.is_empty()
        && value
            .split(' ')
            .all(|word| !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_graphic()))
}
