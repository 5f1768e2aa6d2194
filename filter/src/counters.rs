//! Counts decisions, under the names that operators see.
//!
//! Envoy shows a counter as `wasmcustom.NAME`, and in the Prometheus format as the name alone with underscores for dots.
//! So every name begins with the project's. A call into the host costs a third as much as reading a header map, so counts
//! are kept here and passed to the host once a second.

use std::cell::Cell;

use fluxlit_policy::{
    DecisionRecord, HeaderGroup, HstsOutcome, MountOutcome, ProbeOutcome, Reason, TrustOutcome,
};
use proxy_wasm::hostcalls::{define_metric, increment_metric};
use proxy_wasm::types::MetricType;

/// All counters, defined once for a plugin.
pub(crate) struct Counters {
    trust: Family,
    removed: Family,
    mount: Family,
    answered: Family,
    hsts: Family,
    prefix: Family,
    probes: Family,
}

/// Counters whose names differ in the last part.
struct Family(Vec<Counter>);

struct Counter {
    label: &'static str,
    id: u32,
    /// The count that was not yet passed to the host.
    pending: Cell<u32>,
}

impl Family {
    fn define(name: &str, labels: impl IntoIterator<Item = &'static str>) -> Self {
        let define = |label| {
            let id = define_metric(MetricType::Counter, &format!("fluxlit.{name}.{label}")).ok()?;
            let pending = Cell::new(0);
            Some(Counter { label, id, pending })
        };
        Self(labels.into_iter().filter_map(define).collect())
    }

    fn count(&self, label: &'static str, by: u32) {
        if let Some(counter) = self.0.iter().find(|counter| counter.label == label) {
            let pending = &counter.pending;
            pending.set(pending.get().saturating_add(by));
        }
    }

    fn flush(&self) {
        for counter in &self.0 {
            let count = counter.pending.take();
            if count > 0 {
                // Fails if the host does not know the counter.
                let _ = increment_metric(counter.id, i64::from(count));
            }
        }
    }
}

impl Counters {
    pub(crate) fn define() -> Self {
        Self {
            trust: Family::define("requests", TrustOutcome::ALL.iter().map(|it| it.label())),
            removed: Family::define(
                "headers_removed",
                HeaderGroup::ALL.iter().map(|it| it.label()),
            ),
            mount: Family::define("mount", MountOutcome::ALL.iter().map(|it| it.label())),
            answered: Family::define("answered", Reason::ALL.iter().map(|it| it.label())),
            hsts: Family::define("hsts", HstsOutcome::ALL.iter().map(|it| it.label())),
            prefix: Family::define("prefix", [PREFIX_IGNORED]),
            probes: Family::define("probes", ProbeOutcome::ALL.iter().map(|it| it.label())),
        }
    }

    /// Counts a request.
    pub(crate) fn request(&self, record: &DecisionRecord) {
        self.trust.count(record.trust.label(), 1);
        if let Some(mount) = record.mount {
            self.mount.count(mount.label(), 1);
        }
        if let Some(reason) = record.reply_reason {
            self.answered.count(reason.label(), 1);
        }
        if record.prefix_ignored {
            self.prefix.count(PREFIX_IGNORED, 1);
        }
        for (group, count) in record.removed() {
            self.removed.count(group.label(), count);
        }
    }

    /// Counts a request for the decision record.
    pub(crate) fn probe(&self, outcome: ProbeOutcome) {
        self.probes.count(outcome.label(), 1);
    }

    /// Counts a response.
    pub(crate) fn response(&self, hsts: Option<HstsOutcome>) {
        if let Some(hsts) = hsts {
            self.hsts.count(hsts.label(), 1);
        }
    }

    /// Passes the counts since the last call to the host.
    pub(crate) fn flush(&self) {
        let Self {
            trust,
            removed,
            mount,
            answered,
            hsts,
            prefix,
            probes,
        } = self;
        for family in [trust, removed, mount, answered, hsts, prefix, probes] {
            family.flush();
        }
    }
}

/// The label of an `X-Forwarded-Prefix` that is ignored.
const PREFIX_IGNORED: &str = "ignored";

/// Flushes the last counts of a plugin that ends or is configured again.
impl Drop for Counters {
    fn drop(&mut self) {
        self.flush();
    }
}
