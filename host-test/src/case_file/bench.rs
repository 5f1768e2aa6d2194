//! Measures the cost of a stream of a case.

use std::path::Path;

use fluxlit_cases::{Case, CaseFile};
use rustix::time::{ClockId, clock_gettime};

use super::convert;
use super::run::{PreparedExchange, Runner, run_prepared};
use super::schedule::Schedule;
use super::start::start;
use crate::abi::Properties;
use crate::stream::Stream;
use crate::vm::failure::StartError;
use crate::vm::filter::LoadError;

/// The cost of a stream, as the mean of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// The fuel of its callbacks.
    pub fuel: u64,
    /// The part of `fuel` that host calls and their copies used.
    pub abi_fuel: u64,
    /// The CPU time, including the work of the host.
    pub nanoseconds: u64,
    /// The number of host calls.
    pub calls: u64,
    /// The size of the module's memory at the end, in bytes.
    pub memory: u64,
    /// The growth of its memory from the first stream to the last, in bytes; a leak if it does not stop.
    pub growth: u64,
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

/// Returns the CPU time of this thread in nanoseconds, which does not depend on other load of the machine.
fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec)
        .saturating_mul(1_000_000_000)
        .saturating_add(part(time.tv_nsec))
}

const WARM_UP: u32 = 100;
