//! What is counted, and under which names?
//!
//! Envoy shows a counter as `wasmcustom.NAME`, and in Prometheus' format as the name alone with underscores for dots.
//! So every name begins with the project's. A call into the host costs as much as a third of reading a header map, so
//! counts are kept here and handed over once a second.

use std::cell::Cell;

use fluxlit_policy::{
    DecisionRecord, HeaderGroup, HstsOutcome, MountOutcome, Reason, TrustOutcome,
};

use crate::host;

/// All counters, defined once for a plugin.
pub(crate) struct Counters {
    trust: Family,
    removed: Family,
    mount: Family,
    answered: Family,
    hsts: Family,
}

/// Counters that differ in the last part of their names.
struct Family(Vec<Counter>);

struct Counter {
    label: &'static str,
    id: u32,
    /// Not yet handed over.
    pending: Cell<u32>,
}

impl Family {
    fn define(name: &str, labels: impl IntoIterator<Item = &'static str>) -> Self {
        Self(
            labels
                .into_iter()
                .filter_map(|label| {
                    Some(Counter {
                        label,
                        id: host::define_counter(&format!("fluxlit.{name}.{label}"))?,
                        pending: Cell::new(0),
                    })
                })
                .collect(),
        )
    }

    fn count(&self, label: &'static str, by: u32) {
        if let Some(counter) = self.0.iter().find(|counter| counter.label == label) {
            let pending = &counter.pending;
            pending.set(pending.get().saturating_add(by));
        }
    }

    fn hand_over(&self) {
        for counter in &self.0 {
            match counter.pending.take() {
                0 => {}
                count => host::count(counter.id, count),
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
        }
    }

    /// Counts a request.
    pub(crate) fn request(&self, account: &DecisionRecord) {
        self.trust.count(account.trust.label(), 1);
        if let Some(mount) = account.mount {
            self.mount.count(mount.label(), 1);
        }
        if let Some(reason) = account.reply_reason {
            self.answered.count(reason.label(), 1);
        }
        for (group, count) in account.removed() {
            self.removed.count(group.label(), count);
        }
    }

    /// Counts a response.
    pub(crate) fn response(&self, hsts: Option<HstsOutcome>) {
        if let Some(hsts) = hsts {
            self.hsts.count(hsts.label(), 1);
        }
    }

    /// Tells the host what was counted since the last time.
    pub(crate) fn hand_over(&self) {
        for family in [
            &self.trust,
            &self.removed,
            &self.mount,
            &self.answered,
            &self.hsts,
        ] {
            family.hand_over();
        }
    }
}
