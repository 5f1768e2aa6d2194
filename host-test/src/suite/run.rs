//! Runs a test of a suite and compares the results with its expectations.

use fluxlit_cases::matches_whole;

use super::format::{
    Chunks, Expectation, Immediate, Input, Invocation, Matcher, MatcherKind, Suite, Test,
};
use crate::abi::{HeaderMap, LogLevel, Properties};
use crate::envoy::{self, RequestHead};
use crate::event::{LogLine, Side};
use crate::stream::Stream;
use crate::vm::filter::Filter;
use crate::vm::options::{Clock, StartOptions};

/// A running test.
struct Running<'a> {
    suite: &'a Suite,
    stream: Stream,
    /// The number of log lines that have been compared.
    compared_logs: usize,
    mismatches: Vec<String>,
}

impl Suite {
    /// Runs a test of this suite and returns the mismatches, one readable line each. `config` replaces the configuration that
    /// the suite names.
    pub fn mismatches(&self, filter: &Filter, config: Option<&[u8]>, test: &Test) -> Vec<String> {
        let configuration = match (config, &self.config_path) {
            (Some(config), _) => config.to_vec(),
            (None, Some(path)) => match self.read(path) {
                Ok(bytes) => bytes,
                Err(mismatch) => return vec![mismatch],
            },
            (None, None) => Vec::new(),
        };
        let level = self.log_level.as_deref().and_then(LogLevel::named);
        let plugin = filter.start(StartOptions {
            plugin_configuration: configuration,
            clock: Clock::Virtual {
                start: self.time_secs.saturating_mul(1_000_000_000).max(EARLIEST),
            },
            log_level: level.unwrap_or(LogLevel::Info),
            ..StartOptions::default()
        });
        let plugin = match plugin {
            Ok(plugin) => plugin,
            Err(refused) => {
                return vec![format!("plugin_init: {refused}{}", log_text(&refused.logs))];
            }
        };
        let mut mismatches = Vec::new();
        self.compare_logs(
            "plugin_init",
            &test.plugin_init,
            &plugin.logs(),
            &mut mismatches,
        );
        let mut properties = Properties::default();
        for (path, value) in &test.properties {
            properties = properties.with_dotted(path, value.clone());
        }
        let mut running = Running {
            suite: self,
            stream: plugin.stream(properties),
            compared_logs: 0,
            mismatches,
        };
        running.compare_new_logs("stream_init", &test.stream_init);
        running.phases(test);
        let Running {
            stream,
            compared_logs,
            mut mismatches,
            ..
        } = running;
        let outcome = stream.finish();
        let logs = outcome.logs.get(compared_logs..).unwrap_or_default();
        self.compare_logs(
            "stream_destroy",
            &test.stream_destroy,
            logs,
            &mut mismatches,
        );
        if let Some(failure) = outcome.failure {
            mismatches.push(format!(
                "the filter failed: {failure}{}",
                log_text(&outcome.logs)
            ));
        }
        mismatches
    }

    fn compare_logs(
        &self,
        phase: &str,
        want: &Expectation,
        logs: &[LogLine],
        mismatches: &mut Vec<String>,
    ) {
        for matcher in &want.log {
            let lines = logs.iter().map(|line| line.text.as_bytes());
            if !self.is_met(matcher, lines) {
                mismatches.push(format!("{phase}: log: want {matcher}{}", log_text(logs)));
            }
        }
    }

    /// Returns true if one of the texts matches, or if none does and the matcher is inverted.
    fn is_met<'a>(&self, matcher: &Matcher, mut texts: impl Iterator<Item = &'a [u8]>) -> bool {
        let file;
        let exact = match &matcher.kind {
            MatcherKind::Regex(regex) => {
                let is_match =
                    texts.any(|text| matches_whole(regex, &String::from_utf8_lossy(text)));
                return is_match != matcher.is_inverted;
            }
            MatcherKind::Exact(bytes) => bytes,
            MatcherKind::File(path) => {
                let Ok(bytes) = std::fs::read(self.folder.join(path)) else {
                    return false;
                };
                file = bytes;
                &file
            }
        };
        texts.any(|text| text == exact) != matcher.is_inverted
    }

    /// Returns the body, or the HTTP/1 head, of an input.
    fn contents(&self, input: &Input) -> Result<Vec<u8>, String> {
        match (&input.content, &input.file) {
            (Some(content), _) => Ok(content.clone()),
            (None, Some(file)) => self.read(file),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Reads a file that the suite names.
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let path = self.folder.join(path);
        std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    }

    fn headers(&self, input: &Input, side: Side) -> Result<HeaderMap, String> {
        if input.content.is_none() && input.file.is_none() {
            let mut map = HeaderMap::default();
            for (name, value) in &input.headers {
                map.add(name.as_bytes(), value);
            }
            return Ok(map);
        }
        Ok(from_http1(&self.contents(input)?, side))
    }
}

impl Running<'_> {
    fn phases(&mut self, test: &Test) {
        for (side, headers, body) in [
            (Side::Request, &test.request_headers, &test.request_body),
            (Side::Response, &test.response_headers, &test.response_body),
        ] {
            let is_request = side == Side::Request;
            if let Some(invocation) = headers {
                let phase = if is_request {
                    "request_headers"
                } else {
                    "response_headers"
                };
                match self.suite.headers(&invocation.input, side) {
                    Ok(map) if is_request => {
                        self.stream.request_headers(map, false);
                    }
                    Ok(map) => {
                        self.stream.response_headers(map, false);
                    }
                    Err(mismatch) => self.mismatches.push(mismatch),
                }
                self.compare(phase, side, invocation, &[]);
            }
            for invocation in body {
                let phase = if is_request {
                    "request_body"
                } else {
                    "response_body"
                };
                match self.suite.contents(&invocation.input) {
                    Ok(contents) => {
                        let body = self.feed_body(side, &contents, test.chunks);
                        self.compare(phase, side, invocation, &body);
                    }
                    Err(mismatch) => self.mismatches.push(mismatch),
                }
            }
        }
    }

    /// Sends a body in chunks. Returns the body as the filter left it, including the part that the filter holds.
    fn feed_body(&mut self, side: Side, body: &[u8], chunks: Option<Chunks>) -> Vec<u8> {
        let size = match chunks {
            None => body.len(),
            Some(Chunks::Size(size)) => size,
            Some(Chunks::Count(count)) => body.len().div_ceil(count.max(1)),
        };
        let chunks: Vec<&[u8]> = body.chunks(size.max(1)).collect();
        let chunks = if chunks.is_empty() {
            vec![body]
        } else {
            chunks
        };
        let count = chunks.len();
        for (number, chunk) in chunks.into_iter().enumerate() {
            let is_last = number + 1 == count;
            match side {
                Side::Request => self.stream.request_body(chunk.to_vec(), is_last),
                Side::Response => self.stream.response_body(chunk.to_vec(), is_last),
            };
        }
        let mut passed = self.stream.take_body(side);
        passed.extend(self.stream.held_body(side));
        passed
    }

    fn compare(&mut self, phase: &str, side: Side, invocation: &Invocation, body: &[u8]) {
        let want = &invocation.result;
        let reply = self.stream.local_reply();
        let (headers, body) = match (&want.immediate, &reply) {
            (Some(immediate), Some(reply)) => {
                let Immediate {
                    http_status,
                    grpc_status,
                    details,
                } = immediate;
                let statuses = (reply.status, reply.grpc_status);
                if http_status.is_some_and(|want| want != statuses.0)
                    || grpc_status.is_some() && *grpc_status != statuses.1
                {
                    self.mismatches
                        .push(format!("{phase}: want {immediate:?}, got {statuses:?}"));
                }
                if details.as_ref().is_some_and(|want| *want != reply.details) {
                    self.mismatches.push(format!(
                        "{phase}: details: want {details:?}, got {:?}",
                        reply.details
                    ));
                }
                (reply.headers.clone(), reply.body.as_slice())
            }
            (Some(_), None) => {
                self.mismatches
                    .push(format!("{phase}: want an immediate response, got none"));
                return;
            }
            (None, Some(reply)) => {
                self.mismatches.push(format!(
                    "{phase}: want no immediate response, got {}",
                    reply.status
                ));
                return;
            }
            (None, None) => (self.stream.current_headers(side), body),
        };
        for (name, value) in &want.has_header {
            let got = joined(&headers, name);
            if got.as_ref() != Some(value) {
                self.mismatches.push(format!(
                    "{phase}: `{name}`: want {}, got {}",
                    show(Some(value)),
                    show(got.as_deref())
                ));
            }
        }
        for name in &want.no_header {
            if let Some(got) = joined(&headers, name) {
                self.mismatches.push(format!(
                    "{phase}: `{name}`: want none, got {}",
                    show(Some(&got))
                ));
            }
        }
        let lines: Vec<Vec<u8>> = names(&headers)
            .into_iter()
            .map(|name| {
                let value = joined(&headers, &name).unwrap_or_default();
                [name.as_bytes(), b": ", &value].concat()
            })
            .collect();
        for matcher in &want.headers {
            if !self.suite.is_met(matcher, lines.iter().map(Vec::as_slice)) {
                self.mismatches
                    .push(format!("{phase}: headers: want {matcher}, got {lines:?}"));
            }
        }
        for matcher in &want.body {
            if !self.suite.is_met(matcher, std::iter::once(body)) {
                self.mismatches.push(format!(
                    "{phase}: body: want {matcher}, got {}",
                    show(Some(body))
                ));
            }
        }
        self.compare_new_logs(phase, want);
    }

    fn compare_new_logs(&mut self, phase: &str, want: &Expectation) {
        let logs = self.stream.logs();
        let new = logs.get(self.compared_logs..).unwrap_or_default();
        self.suite
            .compare_logs(phase, want, new, &mut self.mismatches);
        self.compared_logs = logs.len();
    }
}

/// The clock of a suite without a time: one millisecond after the epoch, in nanoseconds. A Go module does not start at the
/// epoch.
const EARLIEST: u64 = 1_000_000;

/// Parses the head of an HTTP/1 message. Suites have heads with LF line endings and without a version, so this accepts more
/// than the parser of case files.
fn from_http1(text: &[u8], side: Side) -> HeaderMap {
    let mut lines = text
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(|byte| *byte == b' ');
    let (word, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut host = None;
    let fields: Vec<(&[u8], &[u8])> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
            if name.eq_ignore_ascii_case(b"host") {
                host = Some(value.trim_ascii());
                return None;
            }
            Some((name, value))
        })
        .collect();
    match side {
        Side::Request => {
            let is_tls = target.starts_with(b"https://");
            let is_absolute = is_tls || target.starts_with(b"http://");
            let head = RequestHead {
                method: word,
                target,
                host,
                is_tls,
            };
            let mut map = envoy::request_headers(head, fields);
            if !is_absolute {
                // The scheme is unknown in the origin form of a target.
                map.remove(b":scheme");
            }
            map
        }
        Side::Response => {
            let status = std::str::from_utf8(target).ok();
            let status = status.and_then(|status| status.parse().ok()).unwrap_or(0);
            envoy::response_headers(status, fields)
        }
    }
}

fn names(map: &HeaderMap) -> Vec<String> {
    let mut names: Vec<String> = map
        .iter()
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Returns the values of a name, joined as suites write them.
fn joined(map: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let values = map.get_all(&name.to_ascii_lowercase());
    (!values.is_empty()).then(|| values.join(&b", "[..]))
}

fn show(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(
        || "none".to_owned(),
        |bytes| format!("`{}`", bytes.escape_ascii()),
    )
}

fn log_text(logs: &[LogLine]) -> String {
    let lines: Vec<&str> = logs.iter().map(|line| line.text.as_str()).collect();
    format!(", logged `{}`", lines.join("\n"))
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_inverted {
            f.write_str("nothing like ")?;
        }
        match &self.kind {
            MatcherKind::Exact(bytes) => write!(f, "`{}`", bytes.escape_ascii()),
            MatcherKind::Regex(regex) => write!(f, "`{regex}`"),
            MatcherKind::File(path) => write!(f, "the contents of {path}"),
        }
    }
}
