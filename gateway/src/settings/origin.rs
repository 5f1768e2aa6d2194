//! Defines where the value of a setting comes from.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::public_url::{REDACTED, without_credentials};

/// A setting with its value and origin, as `fluxlit-gateway config` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The variable. A setting that is set by another of its names is listed under that one.
    pub name: String,
    /// The value: a boolean, a number, or text; `null` if it is not set and has no default. Secrets are replaced.
    pub value: Value,
    /// The value that the setting has if it is not set; `null` if there is none.
    pub default: Value,
    /// The origin of the value.
    pub origin: Origin,
}

impl Setting {
    /// Returns true if the value is from the settings file.
    pub fn is_from_file(&self) -> bool {
        matches!(self.origin, Origin::File { .. })
    }
}

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Origin {
    /// The command line.
    CommandLine {
        /// The flag, such as `--port`.
        flag: &'static str,
    },
    /// The environment of the process.
    Environment {
        /// The variable as it is spelled there.
        variable: String,
    },
    /// The file `.env`.
    DotEnv {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The variable as it is spelled there.
        variable: String,
    },
    /// The settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// The built-in default.
    Default,
}

impl Origin {
    /// Returns the place and the name there, for the beginning of an error about this value: `fluxlit.toml:3: root_path`.
    pub(super) fn place(&self, name: &str) -> String {
        match self {
            Self::CommandLine { flag } => (*flag).to_owned(),
            Self::Environment { variable } => variable.clone(),
            Self::DotEnv { variable, .. } => format!("{self}: {variable}"),
            Self::File { key, .. } => format!("{self}: {key}"),
            Self::Default => name.to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    /// Writes the place: `--port`, `environment`, `.env:2`, `fluxlit.toml:3`, `default`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine { flag } => f.write_str(flag),
            Self::Environment { .. } => f.write_str("environment"),
            Self::DotEnv { path, line, .. } | Self::File { path, line, .. } => {
                write!(f, "{}:{line}", path.display())
            }
            Self::Default => f.write_str("default"),
        }
    }
}

/// Returns a value as it may be shown: without secrets, and without user and password in a URL.
pub(super) fn shown(name: &str, value: Value) -> Value {
    match value {
        Value::String(text) if is_secret(name) && !text.is_empty() => REDACTED.into(),
        Value::String(text) => without_credentials(&text).into(),
        other => other,
    }
}

/// Returns true for variables whose value is a secret. `FLUXLIT_TLS_KEY` is the path of a file.
fn is_secret(name: &str) -> bool {
    let ends = ["_SECRET", "_PASSWORD", "_TOKEN", "_PROBE_KEY"];
    ends.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (name, value, expected) in [
            ("FLUXLIT_JWT_HS256_SECRET", "hunter2", "[REDACTED]"),
            ("FLUXLIT_OIDC_BFF_SECRET", "", ""),
            ("FLUXLIT_PROBE_KEY", "hunter2", "[REDACTED]"),
            ("FLUXLIT_TLS_KEY", "/etc/tls.key", "/etc/tls.key"),
            ("FLUXLIT_LOG_SENSITIVE_QUERY_KEYS", "a,b", "a,b"),
            (
                "FLUXLIT_API_UPSTREAM",
                "http://me:pw@api:80/a",
                "http://[REDACTED]@api:80/a",
            ),
        ] {
            assert_eq!(shown(name, json!(value)), json!(expected), "{name}");
        }
        assert_eq!(shown("FLUXLIT_X_SECRET", json!(1)), json!(1));
    }

    #[test]
    fn an_origin_names_its_place() {
        let (path, line) = (PathBuf::from("conf/.env"), 7);
        let variable = "fluxlit_root_path".to_owned();
        for (origin, text, place) in [
            (
                Origin::CommandLine {
                    flag: "--root-path",
                },
                "--root-path",
                "--root-path",
            ),
            (
                Origin::Environment {
                    variable: variable.clone(),
                },
                "environment",
                "fluxlit_root_path",
            ),
            (
                Origin::DotEnv {
                    path: path.clone(),
                    line,
                    variable,
                },
                "conf/.env:7",
                "conf/.env:7: fluxlit_root_path",
            ),
            (
                Origin::File {
                    path,
                    line,
                    key: "root_path".to_owned(),
                },
                "conf/.env:7",
                "conf/.env:7: root_path",
            ),
            (Origin::Default, "default", "FLUXLIT_ROOT_PATH"),
        ] {
            assert_eq!(origin.to_string(), text);
            assert_eq!(origin.place("FLUXLIT_ROOT_PATH"), place);
        }
    }
}
