//! In what does a filter miss a test of a suite?

use std::path::Path;

use super::{Chunks, Expectation, Immediate, Input, Invocation, Matcher, MatcherKind, Suite, Test};
use crate::abi::LogLevel;
use crate::abi::header_map::HeaderMap;
use crate::abi::property::Properties;
use crate::case_file::matches_whole;
use crate::envoy::{self, RequestHead};
use crate::plugin::{Clock, StartOptions};
use crate::stream::{Side, Stream};
use crate::vm::filter::Filter;
use crate::vm::state::LogLine;

/// A test that runs: its stream, and how much of the log was judged.
struct Running<'a> {
    suite: &'a Suite,
    stream: Stream,
    judged_logs: usize,
    misses: Vec<String>,
}

impl Suite {
    /// Runs a test of this suite, and says in what it misses: one readable line a miss. `config` replaces the file that
    /// the suite names.
    pub fn misses(&self, filter: &Filter, config: Option<&Path>, test: &Test) -> Vec<String> {
        let named = self.config_path.as_ref().map(|path| self.folder.join(path));
        let configuration = match config.map(Path::to_owned).or(named) {
            Some(path) => match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) => return vec![format!("cannot read {}: {error}", path.display())],
            },
            None => Vec::new(),
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
        let mut misses = Vec::new();
        self.judge_logs(
            "plugin_init",
            &test.plugin_init,
            &plugin.logs(),
            &mut misses,
        );
        let mut properties = Properties::default();
        for (path, value) in &test.properties {
            properties = properties.with_dotted(path, value.clone());
        }
        let mut running = Running {
            suite: self,
            stream: plugin.stream(properties),
            judged_logs: 0,
            misses,
        };
        running.judge_new_logs("stream_init", &test.stream_init);
        running.phases(test);
        let Running {
            stream,
            judged_logs,
            mut misses,
            ..
        } = running;
        let outcome = stream.finish();
        let logs = outcome.logs.get(judged_logs..).unwrap_or_default();
        self.judge_logs("stream_destroy", &test.stream_destroy, logs, &mut misses);
        if let Some(failure) = outcome.failure {
            misses.push(format!(
                "the filter failed: {failure}{}",
                log_text(&outcome.logs)
            ));
        }
        misses
    }

    fn judge_logs(
        &self,
        phase: &str,
        want: &Expectation,
        logs: &[LogLine],
        misses: &mut Vec<String>,
    ) {
        for matcher in &want.log {
            let lines = logs.iter().map(|line| line.text.as_bytes());
            if !self.is_met(matcher, lines) {
                misses.push(format!("{phase}: log: want {matcher}{}", log_text(logs)));
            }
        }
    }

    /// Whether one of the texts matches, or none if the matcher is inverted.
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

    fn contents(&self, input: &Input) -> Result<Vec<u8>, String> {
        match (&input.content, &input.file) {
            (Some(content), _) => Ok(content.clone()),
            (None, Some(file)) => {
                let path = self.folder.join(file);
                std::fs::read(&path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))
            }
            (None, None) => Ok(Vec::new()),
        }
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
                    Err(miss) => self.misses.push(miss),
                }
                self.judge(phase, side, invocation, &[]);
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
                        self.judge(phase, side, invocation, &body);
                    }
                    Err(miss) => self.misses.push(miss),
                }
            }
        }
    }

    /// Feeds a body in chunks, and returns what became of it, held or not.
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

    fn judge(&mut self, phase: &str, side: Side, invocation: &Invocation, body: &[u8]) {
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
                    self.misses
                        .push(format!("{phase}: want {immediate:?}, got {statuses:?}"));
                }
                if details.as_ref().is_some_and(|want| *want != reply.details) {
                    self.misses.push(format!(
                        "{phase}: details: want {details:?}, got {:?}",
                        reply.details
                    ));
                }
                (reply.headers.clone(), reply.body.as_slice())
            }
            (Some(_), None) => {
                self.misses
                    .push(format!("{phase}: want an immediate response, got none"));
                return;
            }
            (None, Some(reply)) => {
                self.misses.push(format!(
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
                self.misses.push(format!(
                    "{phase}: `{name}`: want {}, got {}",
                    show(Some(value)),
                    show(got.as_deref())
                ));
            }
        }
        for name in &want.no_header {
            if let Some(got) = joined(&headers, name) {
                self.misses.push(format!(
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
                self.misses
                    .push(format!("{phase}: headers: want {matcher}, got {lines:?}"));
            }
        }
        for matcher in &want.body {
            if !self.suite.is_met(matcher, std::iter::once(body)) {
                self.misses.push(format!(
                    "{phase}: body: want {matcher}, got {}",
                    show(Some(body))
                ));
            }
        }
        self.judge_new_logs(phase, want);
    }

    fn judge_new_logs(&mut self, phase: &str, want: &Expectation) {
        let logs = self.stream.logs();
        let new = logs.get(self.judged_logs..).unwrap_or_default();
        self.suite.judge_logs(phase, want, new, &mut self.misses);
        self.judged_logs = logs.len();
    }
}

/// One millisecond after the epoch, in nanoseconds: the clock of a suite without a time. A Go module does not start when
/// the clock is at the epoch.
const EARLIEST: u64 = 1_000_000;

/// A message's head in HTTP/1 form, with any line endings.
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
                // An origin form does not tell the scheme.
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

/// The values of a name as one text, as the suites have it.
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
            MatcherKind::File(path) => write!(f, "what is in {path}"),
        }
    }
}
