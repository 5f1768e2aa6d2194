//! What does a stream of a case cost?

use std::path::Path;

use fluxlit_cases::{Case, CaseFile};
use rustix::time::{ClockId, clock_gettime};

use super::convert;
use super::run::{Prepared, Runner, play};
use super::schedule::Schedule;
use crate::abi::property::Properties;
use crate::stream::Stream;
use crate::vm::filter::LoadError;

/// What one stream costs, as the mean of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// Fuel of its callbacks.
    pub fuel: u64,
    /// The part of it that host calls and their copies took.
    pub abi_fuel: u64,
    /// Time of the processor, the host's own work included.
    pub nanoseconds: u64,
    /// Host calls.
    pub calls: u64,
    /// Bytes of memory that the module has in the end.
    pub memory: u64,
    /// Bytes that its memory grew by from the first stream to the last: a leak, if it does not stop.
    pub growth: u64,
}

/// Why a case cannot be measured.
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
    #[error("the filter refused to start for `{case}`")]
    Refused {
        /// The case.
        case: String,
        /// The reason.
        source: Box<crate::plugin::Refused>,
    },
}

impl Runner {
    /// Runs `streams` streams of the case's first request, and those alongside, in one VM, after a few that warm it up.
    /// Meanwhile `live` more streams, which have seen a request's headers and nothing else, stay open.
    ///
    /// # Errors
    ///
    /// As [`BenchError`] says.
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
        let started = self.start(path, file, case)?;
        let started = started.map_err(|not| BenchError::Refused {
            case: case.name.clone(),
            source: Box::new(not.refused),
        })?;
        let Some(plugin) = started.tested(group.worker) else {
            return Err(BenchError::NoRequest(case.name.clone()));
        };
        let prepared = Prepared::of(&started, &group, Schedule::default());
        let run = || play(&started, &group, &prepared);
        for _ in 0..WARM_UP {
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
        let (mut fuel, mut abi_fuel, mut calls) = (0, 0, 0);
        let start = cpu_time();
        for _ in 0..streams {
            for (outcome, _) in run() {
                for filter in &outcome.filters {
                    fuel += filter.fuel;
                    abi_fuel += filter.abi_fuel;
                    calls += filter.calls.values().sum::<u64>();
                }
            }
        }
        let elapsed = cpu_time().saturating_sub(start);
        let count = u64::from(streams.max(1));
        let memory = plugin.memory();
        for stream in open {
            stream.finish();
        }
        Ok(Bench {
            fuel: fuel / count,
            abi_fuel: abi_fuel / count,
            nanoseconds: elapsed / count,
            calls: calls / count,
            memory: memory as u64,
            growth: memory.saturating_sub(memory_before) as u64,
        })
    }
}

/// Nanoseconds that this thread has had of a processor: other load on the machine does not count.
fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec)
        .saturating_mul(1_000_000_000)
        .saturating_add(part(time.tv_nsec))
}

const WARM_UP: u32 = 100;
