//! Decides which security headers are added to a response.
//!
//! Each is set only if it is absent, and never overrides the app's own. Content-Security-Policy is never on by default:
//! Streamlit's scripts and sockets change between versions, so a policy that fits one version can break the next.

use crate::config::{CspRuleConfig, HeaderValue, SecurityHeadersConfig, SecurityHeadersSetting};
use crate::config_error::ConfigError;
use crate::mount::Mount;

/// The headers to set when absent, with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SecurityHeaders(Vec<(&'static str, String)>);

impl SecurityHeaders {
    pub(crate) fn from_config(
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
        let mut headers = Vec::new();
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
                None | Some(HeaderValue::Switch(true)) => headers.push((name, default.to_owned())),
                Some(HeaderValue::Text(value)) if is_sendable(&value) => {
                    headers.push((name, value));
                }
                Some(HeaderValue::Text(value)) => errors.push(ConfigError::HeaderText {
                    setting: setting.to_owned(),
                    value,
                }),
            }
        }
        Self(headers)
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
    pub(crate) fn from_config(written: Vec<CspRuleConfig>, errors: &mut Vec<ConfigError>) -> Self {
        let mut rules = Vec::with_capacity(written.len());
        for (index, rule) in written.into_iter().enumerate() {
            let path = |name| format!("content_security_policy[{index}].{name}");
            let CspRuleConfig {
                path_prefix,
                report_only,
                value,
            } = rule;
            let prefix = match path_prefix.as_deref().map(Mount::parse) {
                Some(Ok(prefix)) => prefix,
                Some(Err(value)) => {
                    errors.push(ConfigError::Mount {
                        setting: path("path_prefix"),
                        value,
                    });
                    continue;
                }
                None => {
                    errors.push(ConfigError::Missing {
                        setting: path("path_prefix"),
                    });
                    continue;
                }
            };
            match value {
                Some(value) if is_sendable(&value) => rules.push(CspRule {
                    prefix,
                    header: if report_only == Some(true) {
                        "content-security-policy-report-only"
                    } else {
                        "content-security-policy"
                    },
                    value,
                }),
                Some(value) => errors.push(ConfigError::HeaderText {
                    setting: path("value"),
                    value,
                }),
                None => errors.push(ConfigError::Missing {
                    setting: path("value"),
                }),
            }
        }
        Self(rules)
    }

    /// Returns the index of the first rule that covers `path`.
    pub(crate) fn find(&self, path: &[u8]) -> Option<usize> {
        self.0
            .iter()
            .position(|rule| rule.prefix.strip(path).is_some())
    }

    /// Returns the name and the value of the header of a rule.
    pub(crate) fn header(&self, index: usize) -> Option<(&'static str, &str)> {
        self.0
            .get(index)
            .map(|rule| (rule.header, rule.value.as_str()))
    }
}

/// Returns true for visible ASCII with single spaces inside: such a value can neither split a response nor change its
/// meaning.
fn is_sendable(value: &str) -> bool {
    !value.is_empty()
        && value
            .split(' ')
            .all(|word| !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_graphic()))
}
