//! Reads and writes case files.
//!
//! Files that a case file names are read with it, so that the result is self-contained.

use std::path::{Path, PathBuf};

use crate::comments;
use crate::format::{Case, CaseFile};

/// The reason why a case file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseFileError {
    /// The file is not a well-formed case file.
    #[error("{path}:{line}:{column}: {key}: {message}", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// The path of the key, such as `cases[2].request.peer`.
        key: String,
        /// The problem.
        message: String,
    },
    /// A case contradicts itself.
    #[error("{path}: case `{case}`: {problem}", path = path.display())]
    Case {
        /// The file.
        path: PathBuf,
        /// The case's name.
        case: String,
        /// The problem.
        problem: String,
    },
    /// A key of the whole file, not of a case, is wrong.
    #[error("{path}: {problem}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The file or folder cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl CaseFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// See [`CaseFileError`].
    pub fn load(path: &Path) -> Result<Self, CaseFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| CaseFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Reads all `*.json` files of a folder, in the order of their names.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], for the first file that fails.
    pub fn load_folder(folder: &Path) -> Result<Vec<(PathBuf, Self)>, CaseFileError> {
        let read_error = |source| CaseFileError::Read {
            path: folder.to_owned(),
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(read_error)? {
            let path = entry.map_err(read_error)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                paths.push(path);
            }
        }
        paths.sort();
        paths
            .into_iter()
            .map(|path| Self::load(&path).map(|file| (path, file)))
            .collect()
    }

    /// Reads the text of a file. `path` is used in messages and to resolve relative paths in the file.
    ///
    /// # Errors
    ///
    /// See [`CaseFileError`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, CaseFileError> {
        let mut file = Self::parse_own(path, text)?;
        if let Some(golden) = file.golden.clone() {
            let recording = path.parent().unwrap_or(Path::new("")).join(golden);
            let text = std::fs::read_to_string(&recording).map_err(|error| CaseFileError::File {
                path: path.to_owned(),
                problem: format!(
                    "golden: cannot read {}: {error}; write it with `host-test record`, or remove the key",
                    recording.display()
                ),
            })?;
            // The recording of a recording is not read: it would not be compared with anything.
            let golden = Self::parse_own(&recording, &text)?;
            for case in &mut file.cases {
                let same = |other: &&Case| other.name == case.name;
                case.golden = golden.cases.iter().find(same).cloned().map(Box::new);
            }
        }
        Ok(file)
    }

    /// Reads a file without the recording that it names.
    fn parse_own(path: &Path, text: &str) -> Result<Self, CaseFileError> {
        let json = comments::blank(text);
        let mut deserializer = serde_json::Deserializer::from_str(&json);
        let form_error = |key: String, error: &serde_json::Error| CaseFileError::Form {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            key,
            message: without_position(error),
        };
        let mut file: Self = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| form_error(error.path().to_string(), error.inner()))?;
        deserializer
            .end()
            .map_err(|error| form_error("the end of the file".to_owned(), &error))?;
        let case_error = |(case, problem)| CaseFileError::Case {
            path: path.to_owned(),
            case,
            problem,
        };
        let file_error = |problem| CaseFileError::File {
            path: path.to_owned(),
            problem,
        };
        file.check_plugins().map_err(file_error)?;
        file.check().map_err(case_error)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        file.read_config(folder).map_err(file_error)?;
        file.read_named_files(folder).map_err(case_error)?;
        // Check again, because the contents of the named files are now part of it.
        file.check().map_err(case_error)?;
        Ok(file)
    }

    /// Returns the file as text that [`Self::parse`] reads.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// Removes the position that `serde_json` appends to its messages.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn error(text: &str) -> String {
        CaseFile::parse(Path::new("x.json"), text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn error_names_line_and_key() {
        let text = "{\n  // What it is about.\n  \"cases\": [\n    {\"name\": \"a\", \"request\": {\"pear\": 1}}\n  ]\n}";
        let message = error(text);
        assert!(
            message.starts_with("x.json:4:40: cases[0].request.pear: unknown field `pear`")
                || message.starts_with("x.json:4:") && message.contains("cases[0].request"),
            "{message}"
        );
        assert!(error("{\"cases\": 3}").starts_with("x.json:1:11: cases: invalid type"));
        assert!(error("{\"cases\": []} x").contains("the end of the file"));
    }

    #[test]
    fn contradictory_case_is_named() {
        let both = r#"{"cases": [{"name": "n", "refused": ["x"], "request": {}}]}"#;
        assert!(error(both).contains("case `n`"), "{}", error(both));
        let twice = r#"{"cases": [{"name": "n", "request": {}}, {"name": "n", "request": {}}]}"#;
        assert!(error(twice).contains("twice"));
        let regex = r#"{"cases": [{"name": "n", "request": {}, "logs": [{"matches": "("}]}]}"#;
        assert!(error(regex).contains("regex"), "{}", error(regex));
        let text = r#"{"cases": [{"name": "n", "request": {"target": "/€"}}]}"#;
        assert!(error(text).contains("U+00FF"), "{}", error(text));
    }

    #[test]
    fn parse_reverses_to_text() {
        let text = r#"{"about": "a", "config": "text", "cases": [{"name": "n", "request": {"peer": "unix", "tls": true,
            "properties": [{"path": ["a", "b.c"], "int": -4}]}, "upstream": {"body": "x"}}]}"#;
        let file = CaseFile::parse(Path::new("x.json"), text).unwrap();
        assert_eq!(
            CaseFile::parse(Path::new("x.json"), &file.to_text()).unwrap(),
            file
        );
    }
}
