//! Searches for an input with which a filter fails.
//!
//! Requests and responses, their headers, bodies and schedules, the plugin configuration, and faults of the host are drawn
//! from a seeded sequence, so the same seed finds the same input. A filter must never trap, loop endlessly or leave a
//! message paused. A failing input is minimized part by part while it still fails, and returned as a case for a case file.
//! May use `case_file` and everything below it.

use std::path::Path;

use crate::abi::Status;
use crate::case_file::{
    Answer, Case, CaseFile, Config, Ending, Request, Runner, Schedule, UpstreamExpectation,
};
use crate::vm::fault::{Fault, FaultPoint};
use crate::vm::host_functions;
use crate::vm::outcome::Outcome;

/// The settings of a search.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed of the sequence.
    pub seed: u64,
    /// The number of inputs to try.
    pub rounds: u32,
    /// Names of fields that the filter probably reads, in addition to common ones.
    pub names: Vec<String>,
    /// True to vary the configuration as well.
    pub vary_config: bool,
    /// True to inject faults: any host call with any status, and the allocator.
    pub faults: bool,
}

/// An input with which the filter failed.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The minimized case.
    pub case: Case,
    /// The schedule of its frames.
    pub schedule: Schedule,
    /// The injected fault.
    pub fault: Option<Fault>,
    /// The description of the failure.
    pub reason: String,
}

/// An input to try.
#[derive(Debug, Clone)]
struct Trial {
    case: Case,
    schedule: Schedule,
    fault: Option<Fault>,
}

/// Tries inputs until the filter fails with one. `file` provides the configuration and, as seeds, cases.
///
/// # Errors
///
/// If the filter does not start with the configuration of `file`, or fails on a plain GET.
pub fn fuzz(
    runner: &mut Runner,
    file: &CaseFile,
    options: &Options,
) -> Result<Option<Finding>, String> {
    let mut random = Random(options.seed);
    let mut names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    names.extend(options.names.iter().cloned());
    for case in &file.cases {
        let requests = case.exchanges();
        names.extend(requests.iter().flat_map(|exchange| {
            exchange
                .request
                .headers
                .iter()
                .map(|(name, _)| name.clone())
        }));
    }
    let plain = Trial {
        case: CaseFile::of_one_get().cases.remove(0),
        schedule: Schedule::default(),
        fault: None,
    };
    if let Some(reason) = plain.failure(runner, file) {
        return Err(format!("the filter fails on a plain GET: {reason}"));
    }
    let functions = host_functions();
    for _ in 0..options.rounds {
        let trial = random.trial(file, &names, &functions, options);
        if let Some(reason) = trial.failure(runner, file) {
            let trial = trial.minimized(runner, file);
            let reason = trial.failure(runner, file).unwrap_or(reason);
            let Trial {
                case,
                schedule,
                fault,
            } = trial;
            return Ok(Some(Finding {
                case: Case {
                    name: format!("found with seed {}", options.seed),
                    why: reason.clone(),
                    ..case
                },
                schedule,
                fault,
                reason,
            }));
        }
    }
    Ok(None)
}

impl Trial {
    /// Returns how the filter fails with this input, if it does. A rejected configuration is not a failure, but a trap at the
    /// start is.
    fn failure(&self, runner: &mut Runner, file: &CaseFile) -> Option<String> {
        runner.options.faults = self.fault.iter().cloned().collect();
        let result = runner.run(Path::new(""), file, &self.case, self.schedule);
        runner.options.faults.clear();
        let result = match result {
            Ok(result) => result,
            Err(error) => return Some(error.to_string()),
        };
        match result.ending {
            Ending::Refused(message) => {
                let is_trap = message.contains(" trapped: ") || message.contains(" did not return");
                is_trap.then_some(message)
            }
            Ending::Served(outcomes) => outcomes
                .iter()
                .flat_map(|outcome| &outcome.filters)
                .find_map(|outcome| failure_of(outcome, self.fault.is_some())),
        }
    }

    /// Removes and shortens parts while the filter still fails.
    fn minimized(mut self, runner: &mut Runner, file: &CaseFile) -> Self {
        loop {
            let smaller = self
                .smaller()
                .into_iter()
                .find(|smaller| smaller.failure(runner, file).is_some());
            match smaller {
                Some(smaller) => self = smaller,
                None => return self,
            }
        }
    }

    /// Returns trials that are slightly smaller than this one.
    fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut smaller = self.clone();
            change(&mut smaller);
            all.push(smaller);
        };
        if self.fault.is_some() {
            with(&|trial| trial.fault = None);
        }
        if self.schedule != Schedule::default() {
            with(&|trial| trial.schedule = Schedule::default());
        }
        if self.case.config.is_some() {
            with(&|trial| trial.case.config = None);
        }
        if self.case.answer.is_some() {
            with(&|trial| trial.case.answer = None);
        }
        let request = self.case.request.clone().unwrap_or_default();
        let answer = self.case.answer.clone().unwrap_or_default();
        let plain = Request::default();
        for (index, _) in request.headers.iter().enumerate() {
            with(&|trial| remove(&mut trial.request().headers, index));
        }
        for (index, _) in request.trailers.iter().enumerate() {
            with(&|trial| remove(&mut trial.request().trailers, index));
        }
        for (index, _) in answer.headers.iter().enumerate() {
            with(&|trial| {
                if let Some(answer) = &mut trial.case.answer {
                    remove(&mut answer.headers, index);
                }
            });
        }
        if !request.body.is_empty() {
            with(&|trial| trial.request().body.clear());
            with(&|trial| halve(&mut trial.request().body));
        }
        if !answer.body.is_empty() {
            with(&|trial| {
                if let Some(answer) = &mut trial.case.answer {
                    halve(&mut answer.body);
                }
            });
        }
        if request.target != plain.target {
            with(&|trial| "/".clone_into(&mut trial.request().target));
            if request.target.chars().count() > 1 {
                with(&|trial| halve(&mut trial.request().target));
            }
        }
        if request.method != plain.method {
            with(&|trial| "GET".clone_into(&mut trial.request().method));
        }
        if request.host != plain.host {
            with(&|trial| trial.request().host = Some("app.example".to_owned()));
        }
        if request.tls {
            with(&|trial| trial.request().tls = false);
        }
        for (index, (_, value)) in request.headers.iter().enumerate() {
            if !value.is_empty() {
                with(&|trial| {
                    if let Some((_, value)) = trial.request().headers.get_mut(index) {
                        halve(value);
                    }
                });
            }
        }
        all
    }

    fn request(&mut self) -> &mut Request {
        self.case.request.get_or_insert_default()
    }
}

/// Returns the failure of a filter. After an injected fault a paused message does not count, because the filter may wait for
/// a response that never arrives.
fn failure_of(outcome: &Outcome, has_fault: bool) -> Option<String> {
    if let Some(failure) = &outcome.failure {
        return Some(failure.to_string());
    }
    (!has_fault && !outcome.paused.is_empty()).then(|| format!("left paused: {:?}", outcome.paused))
}

fn remove<T>(list: &mut Vec<T>, index: usize) {
    if index < list.len() {
        list.remove(index);
    }
}

/// Truncates a text to its first half.
fn halve(text: &mut String) {
    *text = text.chars().take(text.chars().count() / 2).collect();
}

/// A seeded sequence (SplitMix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let index = self.below(list.len());
        list.get(index)
    }

    fn trial(
        &mut self,
        file: &CaseFile,
        names: &[String],
        functions: &[&str],
        options: &Options,
    ) -> Trial {
        let mut request = self
            .pick(&file.cases)
            .and_then(|case| case.request.clone())
            .unwrap_or_default();
        if !self.one_in(3) {
            request.target = format!("/{}", self.text());
        }
        if self.one_in(4) {
            request.method = self.pick(&METHODS).copied().unwrap_or("GET").to_owned();
        }
        if self.one_in(4) {
            request.host = (!self.one_in(4)).then(|| self.text());
        }
        request.tls = self.one_in(2);
        request.headers.extend(self.lines(names));
        if self.one_in(2) {
            request.frames.clear();
            request.body = self.text();
        }
        if self.one_in(4) {
            request.trailers = self.lines(names);
        }
        let answer = Answer {
            status: self
                .pick(&[200, 204, 302, 304, 404, 500])
                .copied()
                .unwrap_or(200),
            headers: self.lines(names),
            body: if self.one_in(2) {
                self.text()
            } else {
                String::new()
            },
            trailers: if self.one_in(8) {
                self.lines(names)
            } else {
                Vec::new()
            },
            ..Answer::default()
        };
        let case = Case {
            config: (options.vary_config && self.one_in(2)).then(|| self.config(file)),
            request: Some(request),
            upstream: Some(UpstreamExpectation::default()),
            answer: Some(answer),
            ..Case::default()
        };
        Trial {
            case,
            schedule: self.pick(&Schedule::ALL).copied().unwrap_or_default(),
            fault: (options.faults && self.one_in(2)).then(|| self.fault(functions)),
        }
    }

    fn fault(&mut self, functions: &[&str]) -> Fault {
        let occurrence = u32::try_from(1 + self.below(12)).unwrap_or(1);
        if self.one_in(8) {
            return Fault {
                at: FaultPoint::Allocation,
                occurrence,
            };
        }
        let function = self.pick(functions).copied().unwrap_or_default();
        Fault {
            at: FaultPoint::HostCall {
                function: function.to_owned(),
                status: self.pick(&Status::ALL).copied().unwrap_or(Status::NotFound),
            },
            occurrence,
        }
    }

    /// Returns the file's configuration with one value replaced, or a text that is not a configuration.
    fn config(&mut self, file: &CaseFile) -> Config {
        match &file.config {
            Some(Config::Object(map)) if !self.one_in(4) => {
                let mut map = map.clone();
                let keys: Vec<String> = map.keys().cloned().collect();
                if let Some(key) = self.pick(&keys) {
                    let value = match self.below(5) {
                        0 => serde_json::Value::Null,
                        1 => self.next().into(),
                        2 => self.text().into(),
                        3 => serde_json::json!([self.text()]),
                        _ => serde_json::json!({self.text(): self.text()}),
                    };
                    map.insert(key.clone(), value);
                }
                Config::Object(map)
            }
            _ => Config::Text(self.text()),
        }
    }

    fn lines(&mut self, names: &[String]) -> Vec<(String, String)> {
        (0..self.below(5))
            .map(|_| {
                let name = if self.one_in(8) {
                    format!("x-{}", self.below(100))
                } else {
                    self.pick(names).cloned().unwrap_or_default()
                };
                (name, self.text())
            })
            .collect()
    }

    /// Returns a text of significant fragments and random bytes, without line ends, which a header cannot contain.
    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.below(6) {
            if self.one_in(3) {
                let byte = u8::try_from(self.below(256)).unwrap_or_default();
                if !matches!(byte, b'\n' | b'\r' | 0) {
                    text.push(char::from(byte));
                }
            } else if let Some(fragment) = self.pick(&FRAGMENTS) {
                text.push_str(fragment);
            }
        }
        if self.one_in(64) {
            text = text.repeat(1000);
        }
        text
    }
}

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "brew"];

/// Fields that many filters read.
const NAMES: [&str; 24] = [
    "accept",
    "accept-encoding",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "if-none-match",
    "location",
    "origin",
    "range",
    "referer",
    "set-cookie",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

const FRAGMENTS: [&str; 32] = [
    "a",
    "B",
    "0",
    "-1",
    "65536",
    "99999999999999999999",
    ",",
    ", ",
    ";",
    "=",
    "\"",
    "'",
    " ",
    "\t",
    "/",
    "//",
    "/../",
    "%2e%2e",
    "%00",
    "%zz",
    "?",
    "#",
    "&",
    ":",
    "://",
    "[::1]",
    "10.0.0.1",
    "http",
    "application/grpc",
    "{}",
    "Bearer ",
    "\u{e9}",
];
