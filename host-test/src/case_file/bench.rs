//! Measures the cost of a stream of a case.

use std::collections::BTreeMap;
use std::path::Path;

use fluxlit_cases::{Case, CaseFile, Exchange};
use rustix::time::{ClockId, clock_gettime};

use super::convert;
use super::result::short_name;
use super::run::{PreparedExchange, Runner, run_prepared};
use super::schedule::Schedule;
use super::start::start;
use crate::abi::Properties;
use crate::chain::ChainOutcome;
use crate::event::Side;
use crate::stream::Stream;
use crate::vm::failure::StartError;
use crate::vm::filter::LoadError;

/// The cost of a stream, as the mean of many: of those that ended like the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// The fuel of its callbacks.
    pub fuel: u64,
    /// The part of `fuel` that host calls and their copies used.
    pub abi_fuel: u64,
    /// The CPU time of all streams, including the work of the host.
    pub nanoseconds: u64,
    /// The number of host calls.
    pub calls: u64,
    /// The size of the module's memory at the end, in bytes.
    pub memory: u64,
    /// The growth of its memory from the first stream to the last, in bytes; a leak if it does not stop.
    pub growth: u64,
    /// How the very first stream ended, in words such as `response 200` or `local reply 403`.
    pub first_ending: String,
    /// How the measured streams ended, each ending with the number of streams.
    pub endings: BTreeMap<String, u64>,
    /// The number of measured streams that the filter failed, left paused, reset, or kept waiting for `proxy_done`, although
    /// the case does not expect it.
    pub failed: u64,
    /// Why the first of them failed.
    pub failure: Option<String>,
}

impl Bench {
    /// Returns the number of measured streams that ended unlike the very first stream.
    pub fn unlike_first(&self) -> u64 {
        let unlike = self.endings.iter();
        unlike
            .filter(|(ending, _)| **ending != self.first_ending)
            .map(|(_, count)| count)
            .sum()
    }
}

/// The reason why a case cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The case has no request.
    #[error("the case `{0}` has no request")]
    NoRequest(String),
    /// A module of its chain cannot be loaded.
    #[error("cannot load a module of the chain")]
    Load(#[from] LoadError),
    /// The plugin does not start.
    #[error("the filter does not start for `{case}`")]
    Start {
        /// The case.
        case: String,
        /// The cause.
        source: Box<StartError>,
    },
}

impl Runner {
    /// Runs the case's first request, and those alongside it, `streams` times in one VM, after a warm-up. Meanwhile `live`
    /// further streams stay open after the request headers.
    ///
    /// # Errors
    ///
    /// See [`BenchError`].
    pub fn bench(
        &self,
        path: &Path,
        file: &CaseFile,
        case: &Case,
        streams: u32,
        live: u32,
    ) -> Result<Bench, BenchError> {
        let group = case
            .groups()
            .into_iter()
            .next()
            .ok_or_else(|| BenchError::NoRequest(case.name.clone()))?;
        let started = start(&self.base(), path, file, case)?;
        let started = started.map_err(|failure| BenchError::Start {
            case: case.name.clone(),
            source: Box::new(failure.error),
        })?;
        let Some(plugin) = started.tested(group.worker) else {
            return Err(BenchError::NoRequest(case.name.clone()));
        };
        let prepared = PreparedExchange::of(&started, &group, Schedule::default());
        let run = || run_prepared(&started, &group, &prepared);
        let first = Endings::of(&run());
        for _ in 1..WARM_UP {
            run();
        }
        let memory_before = plugin.memory();
        let open: Vec<Stream> = (0..live)
            .map(|_| {
                let mut stream = plugin.stream(Properties::default());
                stream.request_headers(convert::request_headers(&group.request), false);
                stream
            })
            .collect();
        let mut sum = Sum::new(&group, &first);
        let start = cpu_time();
        for _ in 0..streams {
            sum.add(&run());
            // Nobody reads these lines, and they would be kept until the end.
            plugin.take_logs();
        }
        let elapsed = cpu_time().saturating_sub(start);
        let memory = plugin.memory();
        drop(open);
        let Sum {
            alike,
            fuel,
            abi_fuel,
            calls,
            endings,
            failed,
            failure,
            ..
        } = sum;
        Ok(Bench {
            fuel: fuel / alike.max(1),
            abi_fuel: abi_fuel / alike.max(1),
            nanoseconds: elapsed / u64::from(streams.max(1)),
            calls: calls / alike.max(1),
            memory: memory as u64,
            growth: memory.saturating_sub(memory_before) as u64,
            first_ending: first.0,
            endings,
            failed,
            failure,
        })
    }
}

/// The ending of an exchange and of those alongside it, in words.
#[derive(PartialEq, Eq)]
struct Endings(String);

impl Endings {
    fn of(group: &[(ChainOutcome, u64)]) -> Self {
        let endings: Vec<String> = group.iter().map(|(outcome, _)| ending(outcome)).collect();
        Self(endings.join(", "))
    }
}

/// What the measured streams cost together.
struct Sum<'a> {
    group: &'a Exchange,
    first: &'a Endings,
    /// The number of streams that ended like the first one.
    alike: u64,
    fuel: u64,
    abi_fuel: u64,
    calls: u64,
    endings: BTreeMap<String, u64>,
    failed: u64,
    failure: Option<String>,
}

impl<'a> Sum<'a> {
    fn new(group: &'a Exchange, first: &'a Endings) -> Self {
        Self {
            group,
            first,
            alike: 0,
            fuel: 0,
            abi_fuel: 0,
            calls: 0,
            endings: BTreeMap::new(),
            failed: 0,
            failure: None,
        }
    }

    fn add(&mut self, group: &[(ChainOutcome, u64)]) {
        let endings = Endings::of(group);
        if endings == *self.first {
            self.alike += 1;
            for filter in group.iter().flat_map(|(outcome, _)| &outcome.filters) {
                self.fuel += filter.fuel;
                self.abi_fuel += filter.abi_fuel;
                self.calls += filter.calls.values().sum::<u64>();
            }
        }
        match self.endings.get_mut(&endings.0) {
            Some(count) => *count += 1,
            None => {
                self.endings.insert(endings.0, 1);
            }
        }
        let expected = std::iter::once(self.group).chain(&self.group.alongside);
        let mut failures = expected
            .zip(group)
            .filter_map(|(expected, (outcome, _))| failure(expected, outcome));
        if let Some(failure) = failures.next() {
            self.failed += 1;
            self.failure.get_or_insert(failure);
        }
    }
}

/// Describes how an exchange ended.
fn ending(outcome: &ChainOutcome) -> String {
    let filters = || outcome.filters.iter();
    if let Some(failure) = filters().find_map(|filter| filter.failure.as_ref()) {
        return format!("failure in {}", failure.callback());
    }
    if let Some(paused) = filters().find_map(|filter| filter.paused.first()) {
        return match paused {
            Side::Request => "request left paused".to_owned(),
            Side::Response => "response left paused".to_owned(),
        };
    }
    if filters().any(|filter| filter.is_reset) {
        return "reset by the filter".to_owned();
    }
    let mut ending = match filters().find_map(|filter| filter.local_reply.as_ref()) {
        Some(reply) => format!(
            "local reply {} in {}",
            reply.status,
            short_name(reply.callback)
        ),
        None => match &outcome.downstream {
            Some(message) => {
                let status = message.headers.get(":status").unwrap_or_default();
                format!("response {}", status.escape_ascii())
            }
            None => "no response".to_owned(),
        },
    };
    if filters().any(|filter| filter.waits_for_done) {
        ending.push_str(", then waiting for proxy_done");
    }
    ending
}

/// Returns how a stream failed, unless the case expects it.
fn failure(expected: &Exchange, outcome: &ChainOutcome) -> Option<String> {
    let filters = || outcome.filters.iter();
    if let Some(failure) = filters().find_map(|filter| filter.failure.as_ref()) {
        return expected.fails.is_none().then(|| failure.to_string());
    }
    let is_paused = filters().any(|filter| !filter.paused.is_empty()) && !expected.paused;
    let is_reset = filters().any(|filter| filter.is_reset) && !expected.reset;
    let waits = filters().any(|filter| filter.waits_for_done);
    (is_paused || is_reset || waits).then(|| ending(outcome))
}

/// Returns the CPU time of this thread in nanoseconds, which does not depend on other load of the machine.
fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec)
        .saturating_mul(1_000_000_000)
        .saturating_add(part(time.tv_nsec))
}

const WARM_UP: u32 = 100;
