//! Finds the headers from which Streamlit takes `st.user`, its option `server.trustedUserHeaders`.
//!
//! Whoever may write such a header chooses the user, so the gateway protects it like any other identity header. The option
//! is looked for where `streamlit run` looks for it, and the last of these places counts: the `.streamlit/config.toml` of the
//! home folder, of the current folder and of the script's folder, then the environment. It maps names of headers to keys of
//! `st.user`: a table, or in a variable a JSON object. A Streamlit that the gateway starts gets the value that was found
//! here, so that a file that changes later cannot name a header that is not protected.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::settings::error::SettingError;

/// The configuration files of a Streamlit, the most general first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamlitFiles(Vec<(PathBuf, String)>);

/// The error when a configuration file of Streamlit cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}, Streamlit's configuration", path.display())]
pub struct StreamlitFileError {
    path: PathBuf,
    source: std::io::Error,
}

impl StreamlitFiles {
    /// Reads the files that exist for this script.
    ///
    /// # Errors
    ///
    /// If a file exists and cannot be read as text.
    pub fn read(script: &Path) -> Result<Self, StreamlitFileError> {
        let folders = [
            std::env::home_dir(),
            std::env::current_dir().ok(),
            script.parent().map(Path::to_owned),
        ];
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for folder in folders.into_iter().flatten() {
            let path = folder.join(".streamlit").join("config.toml");
            match std::fs::read_to_string(&path) {
                Ok(text) => files.push((path, text)),
                Err(source) if is_absent(&source) => {}
                Err(source) => return Err(StreamlitFileError { path, source }),
            }
        }
        Ok(Self(files))
    }

    /// Returns the mapping of headers to keys of `st.user`; empty if the option is not set.
    pub(super) fn trusted_user_headers(
        &self,
        environment: &[(String, String)],
    ) -> Result<Map<String, Value>, SettingError> {
        let variable = |name: &str| {
            let (_, text) = environment.iter().find(|(other, _)| other == name)?;
            (!text.is_empty()).then_some(text.as_str())
        };
        for name in VARIABLES {
            if let Some(text) = variable(name) {
                return from_json(text).ok_or_else(|| invalid(name, text));
            }
        }
        // All files are parsed, because Streamlit reads them all.
        let mut found = Map::new();
        for (path, text) in &self.0 {
            let place = path.display().to_string();
            let file: Map<String, Value> =
                toml::from_str(text).map_err(|error| SettingError::StreamlitFile {
                    path: place.clone(),
                    message: error.to_string(),
                })?;
            let Some(value) = file.get("server").and_then(|server| server.get(OPTION)) else {
                continue;
            };
            let mapping = match value {
                Value::String(text) => match text.strip_prefix("env:") {
                    Some(name) => variable(name).and_then(from_json),
                    None => from_json(text),
                },
                Value::Object(mapping) => Some(mapping.clone()).filter(has_texts_only),
                _ => None,
            };
            found = mapping.ok_or_else(|| invalid(&place, &value.to_string()))?;
        }
        Ok(found)
    }
}

/// Returns true if there is no such file. A file in place of the folder is none either.
fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn from_json(text: &str) -> Option<Map<String, Value>> {
    let mapping: Map<String, Value> = serde_json::from_str(text).ok()?;
    Some(mapping).filter(has_texts_only)
}

fn has_texts_only(mapping: &Map<String, Value>) -> bool {
    mapping.values().all(Value::is_string)
}

fn invalid(place: &str, value: &str) -> SettingError {
    SettingError::TrustedUserHeaders {
        place: place.to_owned(),
        value: value.to_owned(),
    }
}

/// The variable that takes precedence over the others, and by which Streamlit is told the value.
pub(crate) const TRUSTED_USER_HEADERS: &str = "STREAMLIT_SERVER_TRUSTED_USER_HEADERS";

/// The variables that `streamlit run` reads: that of the option, and the one that its command line parser derives from the
/// name of the parameter.
const VARIABLES: [&str; 2] = [
    TRUSTED_USER_HEADERS,
    "STREAMLIT_RUN_SERVER_TRUSTEDUSERHEADERS",
];

const OPTION: &str = "trustedUserHeaders";

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the mapping as JSON, or the text of the error.
    fn read(files: &[&str], environment: &[(&str, &str)]) -> Result<String, String> {
        let files = files.iter().zip(1..);
        let files =
            files.map(|(text, number)| (format!("{number}.toml").into(), (*text).to_owned()));
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let read = StreamlitFiles(files.collect()).trusted_user_headers(&environment);
        read.map(|mapping| Value::Object(mapping).to_string())
            .map_err(|error| error.to_string())
    }

    const TABLE: &str = "[server.trustedUserHeaders]\nX-A = \"email\"\n\"x b\" = \"name\"\n";

    #[test]
    fn the_option_is_found_where_streamlit_finds_it() {
        let explicit = (VARIABLES[0], r#"{"X-E": "email"}"#);
        let derived = (VARIABLES[1], r#"{"X-R": "email"}"#);
        for (files, environment, want) in [
            (&[][..], &[][..], "{}"),
            (&["[server]\nport = 1\n", "[theme]\n", ""], &[], "{}"),
            (&[TABLE], &[], r#"{"X-A":"email","x b":"name"}"#),
            (
                &["server.trustedUserHeaders.X-A = 'email'"],
                &[],
                r#"{"X-A":"email"}"#,
            ),
            (
                &["[server]\ntrustedUserHeaders = '{\"X-A\": \"email\"}'"],
                &[],
                r#"{"X-A":"email"}"#,
            ),
            (
                &["[server]\ntrustedUserHeaders = 'env:HEADERS'"],
                &[("HEADERS", r#"{"X-A": "email"}"#)],
                r#"{"X-A":"email"}"#,
            ),
            // The last place counts, and replaces the others.
            (
                &[TABLE, "[server]\ntrustedUserHeaders = {X-B = 'email'}"],
                &[],
                r#"{"X-B":"email"}"#,
            ),
            (&[TABLE, "[server]\ntrustedUserHeaders = {}"], &[], "{}"),
            (&[TABLE], &[derived], r#"{"X-R":"email"}"#),
            (&[TABLE], &[derived, explicit], r#"{"X-E":"email"}"#),
            (
                &[TABLE],
                &[(VARIABLES[0], ""), derived],
                r#"{"X-R":"email"}"#,
            ),
            (&[TABLE], &[(VARIABLES[0], "{}")], "{}"),
        ] {
            assert_eq!(
                read(files, environment),
                Ok(want.to_owned()),
                "{files:?} {environment:?}"
            );
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_is_an_error() {
        for (files, environment, texts) in [
            (&["[server"][..], &[][..], &["1.toml", "TOML"][..]),
            (&[TABLE, "x = "], &[], &["2.toml", "TOML"]),
            (
                &["[server]\ntrustedUserHeaders = 1"],
                &[],
                &["1.toml", "`1`"],
            ),
            (
                &["[server]\ntrustedUserHeaders = ['X-A']"],
                &[],
                &["1.toml", "X-A"],
            ),
            (
                &["[server]\ntrustedUserHeaders = {X-A = 1}"],
                &[],
                &["1.toml", "X-A"],
            ),
            (
                &["[server]\ntrustedUserHeaders = 'X-A'"],
                &[],
                &["1.toml", "X-A"],
            ),
            (
                &["[server]\ntrustedUserHeaders = 'env:HEADERS'"],
                &[],
                &["1.toml", "env:HEADERS"],
            ),
            (&[], &[(VARIABLES[0], "X-A")], &[VARIABLES[0], "`X-A`"]),
            (&[], &[(VARIABLES[0], "[]")], &[VARIABLES[0], "`[]`"]),
            (&[], &[(VARIABLES[1], "{\"X-A\": null}")], &[VARIABLES[1]]),
        ] {
            let error = read(files, environment).unwrap_err();
            for text in texts {
                assert!(error.contains(text), "{text} is missing in {error}");
            }
        }
    }
}
