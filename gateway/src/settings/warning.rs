//! Defines a warning about settings that are valid but may be a mistake.

use std::fmt;

use fluxlit_policy::ConfigWarning;
use serde::Serialize;

/// A warning for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingWarning {
    /// A stable name of the kind of warning, for scripts.
    pub code: &'static str,
    /// What may be wrong, and what to do.
    pub message: String,
}

impl SettingWarning {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<&ConfigWarning> for SettingWarning {
    fn from(warning: &ConfigWarning) -> Self {
        let code = match warning {
            ConfigWarning::Broad { .. } => "forwarded_allow_ips_broad",
            ConfigWarning::ListWithoutTrust { .. } => "trust_proxy_off",
            ConfigWarning::PrefixNotRead => "prefix_not_read",
            ConfigWarning::ReportOnly => "report_only",
            _ => "policy",
        };
        Self::new(code, warning.to_string())
    }
}

impl fmt::Display for SettingWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
