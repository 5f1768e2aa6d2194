//! Holds the metrics of all workers.
//!
//! These are the sums of what each [worker](super::counters) counts, the results of the upstreams' probes, and values that
//! other modules keep. Names, labels and duration buckets are FluxLit's where FluxLit has the metric.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::metrics::MetricType;

use super::config::Config;
use super::counters::{Block, Counters};
use super::upstream::Upstream;

/// The metrics of all workers.
pub(crate) struct Metrics {
    blocks: Mutex<Vec<Arc<Block>>>,
    /// Zero or one; any other value means that there was no probe yet.
    pub(super) ready: [AtomicU64; Upstream::ALL.len()],
    /// When the last probe of each upstream ended.
    pub(super) checked: [Mutex<Option<Instant>>; Upstream::ALL.len()],
    pub(super) restarts: [AtomicU64; Upstream::ALL.len()],
    pub(super) config: Mutex<Config>,
    /// Reloads of the settings that succeeded, and that failed.
    pub(super) reloads: [AtomicU64; 2],
    /// One if the last reload succeeded, or if there was none.
    pub(super) last_reload: AtomicU64,
    watched: Mutex<Vec<Watched>>,
}

/// A value that another module keeps.
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
            checked: Upstream::ALL.map(|_| Mutex::default()),
            restarts: Upstream::ALL.map(|_| AtomicU64::new(0)),
            reloads: Default::default(),
            last_reload: AtomicU64::new(1),
            config: Mutex::default(),
            watched: Mutex::default(),
        })
    }

    /// Counts a reload of the settings.
    pub(crate) fn reloaded(&self, has_succeeded: bool) {
        let [succeeded, failed] = &self.reloads;
        let count = if has_succeeded { succeeded } else { failed };
        count.fetch_add(1, Ordering::Relaxed);
        self.last_reload
            .store(has_succeeded.into(), Ordering::Relaxed);
    }

    /// Returns the counters of a new worker.
    pub(crate) fn worker(&self) -> Counters {
        let block = Arc::new(Block::new());
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.push(Arc::clone(&block));
        Counters::new(block)
    }

    /// Sets the result of an upstream's last probe. An upstream without a probe is not exported.
    pub(crate) fn upstream_ready(&self, upstream: Upstream, ready: bool) {
        if let Some(state) = self.ready.get(upstream as usize) {
            state.store(ready.into(), Ordering::Relaxed);
        }
        if let Some(checked) = self.checked.get(upstream as usize) {
            *checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    /// Counts an upstream that the gateway has started again because it had ended.
    pub(crate) fn upstream_restarted(&self, upstream: Upstream) {
        if let Some(count) = self.restarts.get(upstream as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets what is exported about the configuration.
    pub(crate) fn set_config(&self, config: Config) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Exports a value that is kept elsewhere and only grows. The name is without `_total`.
    pub(crate) fn watch_counter(
        &self,
        name: &'static str,
        help: &'static str,
        value: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.watch(name, help, MetricType::Counter, Box::new(value));
    }

    /// Exports a value that is kept elsewhere.
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

    /// Returns the sums over all workers.
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

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
