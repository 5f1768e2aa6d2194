//! Reads a settings file, `fluxlit.toml`.
//!
//! The names are those of the variables, without `FLUXLIT_` and in lower case: `root_path`, `gateway_port`. A value is
//! written as in a variable, or as a TOML list of strings, table, number or boolean.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::settings::values::PREFIX;

/// A settings file.
#[derive(Debug, Clone, Default)]
pub struct SettingsFile {
    pub(super) path: PathBuf,
    /// The text of each variable.
    pub(super) values: Vec<(String, String)>,
}

/// The reason why a settings file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsFileError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not valid TOML.
    #[error("{} is not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The position, and what was expected there.
        message: String,
    },
    /// A name does not have the form of a setting's name.
    #[error("{}: unknown setting `{name}`: names are in lower case, such as root_path", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

impl SettingsFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not valid TOML, or has a name that does not have the form of a setting's name.
    pub fn read(path: &Path) -> Result<Self, SettingsFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, SettingsFileError> {
        let table: serde_json::Map<String, Value> =
            toml::from_str(text).map_err(|error| SettingsFileError::Syntax {
                path: path.to_owned(),
                message: error.to_string(),
            })?;
        let values = table.into_iter().map(|(name, value)| {
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if !is_name {
                let path = path.to_owned();
                return Err(SettingsFileError::Name { path, name });
            }
            let variable = format!("{PREFIX}{}", name.to_ascii_uppercase());
            Ok((variable, text_of(&value)))
        });
        Ok(Self {
            path: path.to_owned(),
            values: values.collect::<Result<_, _>>()?,
        })
    }
}

/// Returns a value as it is written in a variable.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => items
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn values_are_converted_to_the_text_of_a_variable() {
        let text = r#"
            root_path = "/apps/my-app"
            trust_proxy = true
            forwarded_allow_ips = ["10.0.0.0/8", "192.0.2.1"]
            gateway_port = 8080
            grace_period_s = 2.5
            [hsts]
            mode = "if_absent"
            max_age = 60
        "#;
        let file = SettingsFile::parse(Path::new("fluxlit.toml"), text).expect("TOML");
        let mut values = file.values;
        values.sort();
        let expected = [
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "10.0.0.0/8,192.0.2.1"),
            ("FLUXLIT_GATEWAY_PORT", "8080"),
            ("FLUXLIT_GRACE_PERIOD_S", "2.5"),
            ("FLUXLIT_HSTS", r#"{"max_age":60,"mode":"if_absent"}"#),
            ("FLUXLIT_ROOT_PATH", "/apps/my-app"),
            ("FLUXLIT_TRUST_PROXY", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(values, expected);
    }

    #[test]
    fn the_documented_file_is_valid() {
        let text = include_str!("../../../docs/gateway.md");
        let (_, text) = text.split_once("```toml\n").expect("an example");
        let (text, _) = text.split_once("```").expect("its end");
        let file = SettingsFile::parse(Path::new("fluxlit.toml"), text).expect("TOML");
        assert!(file.values.len() > 3);
        let upstream = "http://127.0.0.1:8501".to_owned();
        let flags = [("FLUXLIT_STREAMLIT_UPSTREAM", upstream)];
        let settings = Settings::read(None, &flags, &file, []).expect("settings");
        assert_eq!(settings.policy.mount(), "/apps/my-app");
    }

    #[test]
    fn errors_name_the_file_and_the_setting() {
        for (text, expected) in [
            ("root_path = /x", "fluxlit.toml is not valid TOML"),
            ("ROOT_PATH = \"/x\"", "unknown setting `ROOT_PATH`"),
        ] {
            let error = SettingsFile::parse(Path::new("fluxlit.toml"), text).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
