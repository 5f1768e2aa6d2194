//! Does a filter pass a test suite written for Google Cloud's Service Extensions?
//!
//! Their suites (`tests.textpb`, or the same in YAML) are read as they are: phases with an input and what must come of it.
//! A phase that is left out is not called; a phase is judged by what the filter made of its input, whether or not it
//! held it back; the values of one header are compared as one text, joined by `, `. The clock stands at `time_secs`, or
//! one millisecond after the epoch: at the epoch itself no Go module starts. Regular expressions match the whole text.
//! `log_path` and the numbers for benchmarks are not used.

mod read;
mod run;
mod text;

use std::path::{Path, PathBuf};

/// A suite, as its file has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Suite {
    /// The folder that relative paths in the suite begin at.
    folder: PathBuf,
    /// The plugin configuration's file.
    config_path: Option<String>,
    /// The lowest level that is logged, by its name in lower case.
    log_level: Option<String>,
    time_secs: u64,
    /// Its tests in order.
    pub tests: Vec<Test>,
}

/// One stream with what must come of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Test {
    /// Its name.
    pub name: String,
    chunks: Option<Chunks>,
    /// Path, segments joined by dots (they may hold some themselves), and value.
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

/// Why a suite cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// It does not have the form of a suite.
    #[error("{path}: {message}", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and what is wrong.
        message: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

impl Suite {
    /// Whether a file of this name is taken for a suite: `.textpb`, `.txtpb`, `.yaml` or `.yml`.
    pub fn is_suite(path: &Path) -> bool {
        path.extension().is_some_and(|extension| {
            ["textpb", "txtpb", "yaml", "yml"]
                .iter()
                .any(|known| extension == *known)
        })
    }

    /// Reads a suite.
    ///
    /// # Errors
    ///
    /// As [`SuiteError`] says.
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
