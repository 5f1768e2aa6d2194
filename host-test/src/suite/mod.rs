//! Runs test suites that were written for Google Cloud's Service Extensions.
//!
//! A suite (`tests.textpb`, or equivalent YAML) consists of tests with phases, each with an input and the expected result.
//! The callbacks of a phase that is left out are not called. A result is compared even if the filter pauses the message.
//! The values of a header are compared as one text, joined by `, `. The clock is fixed at `time_secs`, by default at one
//! millisecond after the epoch, because Go modules do not start at the epoch itself. Regular expressions match the whole
//! text. `log_path` and the settings for benchmarks are ignored.

mod format;
mod read;
mod run;
mod text;

use std::path::{Path, PathBuf};

pub use format::{Suite, Test};

/// The reason why a suite cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// The file is not a suite.
    #[error("{path}: {message}", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The problem and its position.
        message: String,
    },
    /// The file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

impl Suite {
    /// Returns true if a file of this name is read as a suite: `.textpb`, `.txtpb`, `.yaml` or `.yml`.
    pub fn is_suite(path: &Path) -> bool {
        path.extension().is_some_and(|extension| {
            ["textpb", "txtpb", "yaml", "yml"]
                .iter()
                .any(|known| extension == *known)
        })
    }

    /// Reads the suite in a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not a suite.
    pub fn load(path: &Path) -> Result<Self, SuiteError> {
        let text = std::fs::read_to_string(path).map_err(|source| SuiteError::Read {
            path: path.to_owned(),
            source,
        })?;
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        let message = if is_yaml {
            text::parse_yaml(&text)
        } else {
            text::parse(&text)
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        message
            .and_then(|message| read::suite(message, folder))
            .map_err(|message| SuiteError::Form {
                path: path.to_owned(),
                message,
            })
    }
}
