//! Which small security headers are added to a response?
//!
//! Each is set when absent and never overrides the app's own. Content-Security-Policy is never on by default:
//! Streamlit's scripts and sockets change with its versions, and a policy that is right today breaks the page tomorrow.

use crate::config::{CspRuleConfig, HeaderValue, SecurityHeadersConfig, SecurityHeadersSetting};
use crate::config_error::ConfigError;
use crate::mount::Mount;

/// The headers to set when absent, with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SecurityHeaders(Vec<(&'static str, String)>);

impl SecurityHeaders {
    pub(crate) fn read(
        written: Option<SecurityHeadersSetting>,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let SecurityHeadersConfig {
            referrer_policy,
            x_content_type_options,
            x_frame_options,
        } = match written {
            None | Some(SecurityHeadersSetting::Switch(false)) => return Self::default(),
            Some(SecurityHeadersSetting::Switch(true)) => SecurityHeadersConfig::default(),
            Some(SecurityHeadersSetting::Values(values)) => values,
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
                Some(HeaderValue::Switch(false)) => {}
                None | Some(HeaderValue::Switch(true)) => read.push((name, default.to_owned())),
                Some(HeaderValue::Text(value)) if is_sendable(&value) => read.push((name, value)),
                Some(HeaderValue::Text(value)) => errors.push(ConfigError::HeaderText {
                    setting: setting.to_owned(),
                    value,
                }),
            }
        }
        Self(read)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// The rules of `content_security_policy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CspRules(Vec<CspRule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct CspRule {
    prefix: Mount,
    header: &'static str,
    value: String,
}

impl CspRules {
    pub(crate) fn read(written: Vec<CspRuleConfig>, errors: &mut Vec<ConfigError>) -> Self {
        let mut read = Vec::with_capacity(written.len());
        for (index, rule) in written.into_iter().enumerate() {
            let at = |name| format!("content_security_policy[{index}].{name}");
            let CspRuleConfig {
                path_prefix,
                report_only,
                value,
            } = rule;
            let prefix = match path_prefix.as_deref().map(Mount::read) {
                Some(Ok(prefix)) => prefix,
                Some(Err(value)) => {
                    errors.push(ConfigError::Mount {
                        setting: at("path_prefix"),
                        value,
                    });
                    continue;
                }
                None => {
                    errors.push(ConfigError::Missing {
                        setting: at("path_prefix"),
                    });
                    continue;
                }
            };
            match value {
                Some(value) if is_sendable(&value) => read.push(CspRule {
                    prefix,
                    header: if report_only == Some(true) {
                        "content-security-policy-report-only"
                    } else {
                        "content-security-policy"
                    },
                    value,
                }),
                Some(value) => errors.push(ConfigError::HeaderText {
                    setting: at("value"),
                    value,
                }),
                None => errors.push(ConfigError::Missing {
                    setting: at("value"),
                }),
            }
        }
        Self(read)
    }

    /// The place of the first rule that covers `path`.
    pub(crate) fn find(&self, path: &[u8]) -> Option<usize> {
        self.0
            .iter()
            .position(|rule| rule.prefix.strip(path).is_some())
    }

    /// The header of a rule, and its value.
    pub(crate) fn header(&self, place: usize) -> Option<(&'static str, &str)> {
        self.0
            .get(place)
            .map(|rule| (rule.header, rule.value.as_str()))
    }
}

/// Visible ASCII with single spaces inside: what can neither split a response nor change its meaning.
fn is_sendable(value: &str) -> bool {
    !value.is_empty()
        && value
            .split(' ')
            .all(|word| !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_graphic()))
}
