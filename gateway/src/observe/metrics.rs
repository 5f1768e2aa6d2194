//! What is counted, over all workers?
//!
//! The sum of what each [worker](super::counters) counts, what upstreams' probes have found, and figures that others
//! keep. Names and labels of requests and their durations are FluxLit's, and so are the buckets.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::MetricType;

use super::counters::{Block, Counters};

/// The figures of all workers.
pub(crate) struct Metrics {
    blocks: Mutex<Vec<Arc<Block>>>,
    /// Zero or one; anything else is not known yet.
    pub(super) ready: [AtomicU64; Upstream::ALL.len()],
    watched: Mutex<Vec<Watched>>,
}

/// Whom the gateway asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upstream {
    Streamlit,
    Api,
}

/// A figure that somebody else keeps.
pub(super) struct Watched {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) value: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            blocks: Mutex::default(),
            ready: Upstream::ALL.map(|_| AtomicU64::new(u64::MAX)),
            watched: Mutex::default(),
        })
    }

    /// What a new worker counts with.
    pub(crate) fn worker(&self) -> Counters {
        let block = Arc::new(Block::new());
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.push(Arc::clone(&block));
        Counters::new(block)
    }

    /// Whether an upstream answers its probe. One that is never told of is not shown.
    pub(crate) fn upstream_ready(&self, upstream: Upstream, ready: bool) {
        if let Some(state) = self.ready.get(upstream as usize) {
            state.store(ready.into(), Ordering::Relaxed);
        }
    }

    /// Shows a figure that is kept elsewhere and only grows. The name is without `_total`.
    pub(crate) fn watch_counter(
        &self,
        name: &'static str,
        help: &'static str,
        value: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.watch(name, help, MetricType::Counter, Box::new(value));
    }

    /// Shows a figure that is kept elsewhere.
    pub(crate) fn watch_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        value: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.watch(name, help, MetricType::Gauge, Box::new(value));
    }

    fn watch(
        &self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        value: Box<dyn Fn() -> u64 + Send + Sync>,
    ) {
        self.watched().push(Watched {
            name,
            help,
            kind,
            value,
        });
    }

    /// What all workers have counted.
    pub(super) fn total(&self) -> Block {
        let total = Block::new();
        let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        for block in blocks.iter() {
            total.add(block);
        }
        total
    }

    pub(super) fn watched(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    pub(super) const ALL: [Self; 2] = [Self::Streamlit, Self::Api];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Streamlit => "streamlit",
            Self::Api => "api",
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
