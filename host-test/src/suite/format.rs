//! Defines the types of a suite.

use std::path::PathBuf;

/// A test suite as written in its file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Suite {
    /// The folder that relative paths in the suite start from.
    pub(super) folder: PathBuf,
    /// The file with the plugin configuration.
    pub(super) config_path: Option<String>,
    /// The lowest log level, in lower case.
    pub(super) log_level: Option<String>,
    pub(super) time_secs: u64,
    /// The tests in order.
    pub tests: Vec<Test>,
}

/// One stream with its expected results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Test {
    /// The name of the test.
    pub name: String,
    pub(super) chunks: Option<Chunks>,
    /// Path and value. The segments of a path are joined by dots, and may contain dots.
    pub(super) properties: Vec<(String, Vec<u8>)>,
    pub(super) plugin_init: Expectation,
    pub(super) stream_init: Expectation,
    pub(super) request_headers: Option<Invocation>,
    pub(super) request_body: Vec<Invocation>,
    pub(super) response_headers: Option<Invocation>,
    pub(super) response_body: Vec<Invocation>,
    pub(super) stream_destroy: Expectation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    Count(usize),
    Size(usize),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Invocation {
    pub(super) input: Input,
    pub(super) result: Expectation,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Input {
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) content: Option<Vec<u8>>,
    pub(super) file: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Expectation {
    pub(super) has_header: Vec<(String, Vec<u8>)>,
    pub(super) no_header: Vec<String>,
    pub(super) headers: Vec<Matcher>,
    pub(super) body: Vec<Matcher>,
    pub(super) immediate: Option<Immediate>,
    pub(super) log: Vec<Matcher>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Immediate {
    pub(super) http_status: Option<u32>,
    pub(super) grpc_status: Option<u32>,
    pub(super) details: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matcher {
    pub(super) is_inverted: bool,
    pub(super) kind: MatcherKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum MatcherKind {
    Exact(Vec<u8>),
    Regex(String),
    File(String),
}
