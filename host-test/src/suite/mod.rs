//! Runs test suites that were written for Google Cloud's Service Extensions.
//!
//! A suite (`tests.textpb`, or the same in YAML) consists of tests with phases, each with an input and the expected result.
//! A phase that is left out is not called. A phase is compared with what the filter made of its input, even if the filter
//! holds it. The values of a header are compared as one text, joined by `, `. The clock stands at `time_secs`, or at one
//! millisecond after the epoch, because no Go module starts at the epoch itself. Regular expressions match the whole text.
//! `log_path` and the settings for benchmarks are ignored.

mod read;
mod run;
mod text;

use std::path::{Path, PathBuf};

/// A test suite as written in its file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Suite {
    /// The folder that relative paths in the suite start from.
    folder: PathBuf,
    /// The file with the plugin configuration.
    config_path: Option<String>,
    /// The lowest log level, in lower case.
    log_level: Option<String>,
    time_secs: u64,
    /// The tests in order.
    pub tests: Vec<Test>,
}

/// One stream with its expected results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Test {
    /// The name of the test.
    pub name: String,
    chunks: Option<Chunks>,
    /// Path and value. The segments of a path are joined by dots, and may contain dots.
    properties: Vec<(String, Vec<u8>)>,
    plugin_init: Expectation,
    stream_init: Expectation,
    request_headers: Option<Invocation>,
    request_body: Vec<Invocation>,
    response_headers: Option<Invocation>,
    response_body: Vec<Invocation>,
    stream_destroy: Expectation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunks {
    Count(usize),
    Size(usize),
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Invocation {
    input: Input,
    result: Expectation,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Input {
    headers: Vec<(String, Vec<u8>)>,
    content: Option<Vec<u8>>,
    file: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Expectation {
    has_header: Vec<(String, Vec<u8>)>,
    no_header: Vec<String>,
    headers: Vec<Matcher>,
    body: Vec<Matcher>,
    immediate: Option<Immediate>,
    log: Vec<Matcher>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Immediate {
    http_status: Option<u32>,
    grpc_status: Option<u32>,
    details: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Matcher {
    is_inverted: bool,
    kind: MatcherKind,
}

#[derive(Debug, Clone, PartialEq)]
enum MatcherKind {
    Exact(Vec<u8>),
    Regex(String),
    File(String),
}

/// The reason why a suite cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// The file is not a suite.
    #[error("{path}: {message}", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
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
