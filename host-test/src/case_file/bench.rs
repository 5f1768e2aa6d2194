//! What does a stream of a case cost?

use std::time::Instant;

use super::format::{Case, CaseFile};
use super::run::{Runner, serve};
use super::schedule::Schedule;
use crate::chain::{Chain, ChainOutcome};

/// What one stream costs, as the mean of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// Fuel of its callbacks.
    pub fuel: u64,
    /// Time, the host's own work included.
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
    /// Runs `streams` streams of the case's first request in one VM, after a few that warm it up.
    ///
    /// # Errors
    ///
    /// As [`BenchError`] says.
    pub fn bench(&self, file: &CaseFile, case: &Case, streams: u32) -> Result<Bench, BenchError> {
        let exchange = case
            .exchanges()
            .into_iter()
            .next()
            .ok_or_else(|| BenchError::NoRequest(case.name.clone()))?;
        let (process, plugin, recorded_as) =
            self.start(file, case)
                .map_err(|source| BenchError::Refused {
                    case: case.name.clone(),
                    source: Box::new(source),
                })?;
        let chain = Chain::new([plugin.clone()]);
        let run = || {
            serve(
                &process,
                &chain,
                &exchange,
                Schedule::default(),
                recorded_as.as_deref(),
            )
        };
        for _ in 0..WARM_UP {
            run();
        }
        let memory_before = plugin.memory();
        let (mut fuel, mut calls) = (0, 0);
        let start = Instant::now();
        for _ in 0..streams {
            let outcome: ChainOutcome = run();
            for filter in &outcome.filters {
                fuel += filter.fuel;
                calls += filter.calls.values().sum::<u64>();
            }
        }
        let elapsed = start.elapsed();
        let count = u64::from(streams.max(1));
        let memory = plugin.memory();
        Ok(Bench {
            fuel: fuel / count,
            nanoseconds: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX) / count,
            calls: calls / count,
            memory: memory as u64,
            growth: memory.saturating_sub(memory_before) as u64,
        })
    }
}

const WARM_UP: u32 = 100;
