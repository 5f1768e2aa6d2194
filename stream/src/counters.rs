//! Counts decisions, under the names that operators see.
//!
//! Every name begins with the project's, because Envoy shows the counters of wasm filters in the Prometheus format without
//! any prefix.

use fluxlit_policy::{
    DecisionRecord, HeaderGroup, HstsOutcome, MountOutcome, ProbeOutcome, Reason, TrustOutcome,
};

use crate::host::Host;

/// Returns the labels of an enum in the order of its values, which is also the order of `as usize`.
macro_rules! labels {
    ($values:ident) => {
        $values::ALL.iter().map(|value| value.label())
    };
}

/// All counters, defined once for a plugin. `C` is a counter of the host.
#[derive(Debug)]
pub struct Counters<C> {
    trust: Family<C>,
    removed: Family<C>,
    mount: Family<C>,
    answered: Family<C>,
    hsts: Family<C>,
    prefix: Family<C>,
    probes: Family<C>,
}

/// Counters whose names differ in the last part, in the order of the values that they count; `None` if the host could not
/// define one.
#[derive(Debug)]
struct Family<C>(Vec<Option<C>>);

impl<C> Counters<C> {
    /// Defines all counters: `define` makes the counter of a name such as `fluxlit.requests.untrusted`.
    pub fn define(mut define: impl FnMut(&str) -> Option<C>) -> Self {
        Self {
            trust: Family::of("requests", labels!(TrustOutcome), &mut define),
            removed: Family::of("headers_removed", labels!(HeaderGroup), &mut define),
            mount: Family::of("mount", labels!(MountOutcome), &mut define),
            answered: Family::of("answered", labels!(Reason), &mut define),
            hsts: Family::of("hsts", labels!(HstsOutcome), &mut define),
            prefix: Family::of("prefix", std::iter::once("ignored"), &mut define),
            probes: Family::of("probes", labels!(ProbeOutcome), &mut define),
        }
    }

    /// Iterates over all counters.
    pub fn iter(&self) -> impl Iterator<Item = &C> {
        let Self {
            trust,
            removed,
            mount,
            answered,
            hsts,
            prefix,
            probes,
        } = self;
        [trust, removed, mount, answered, hsts, prefix, probes]
            .into_iter()
            .flat_map(|family| family.0.iter().flatten())
    }

    /// Counts a request.
    pub(crate) fn request<H: Host<Counter = C>>(&self, host: &H, record: &DecisionRecord) {
        self.trust.count(host, record.trust as usize, 1);
        if let Some(mount) = record.mount {
            self.mount.count(host, mount as usize, 1);
        }
        if let Some(reason) = record.reply_reason {
            self.answered.count(host, reason as usize, 1);
        }
        if record.prefix_ignored {
            self.prefix.count(host, 0, 1);
        }
        for (group, count) in record.removed() {
            self.removed.count(host, group as usize, count);
        }
    }

    /// Counts a request for the decision record.
    pub(crate) fn probe<H: Host<Counter = C>>(&self, host: &H, outcome: ProbeOutcome) {
        self.probes.count(host, outcome as usize, 1);
    }

    /// Counts a response.
    pub(crate) fn response<H: Host<Counter = C>>(&self, host: &H, hsts: Option<HstsOutcome>) {
        if let Some(hsts) = hsts {
            self.hsts.count(host, hsts as usize, 1);
        }
    }
}

impl<C> Family<C> {
    fn of(
        name: &str,
        labels: impl Iterator<Item = &'static str>,
        define: &mut impl FnMut(&str) -> Option<C>,
    ) -> Self {
        Self(
            labels
                .map(|label| define(&format!("fluxlit.{name}.{label}")))
                .collect(),
        )
    }

    fn count<H: Host<Counter = C>>(&self, host: &H, index: usize, by: u32) {
        if let Some(Some(counter)) = self.0.get(index) {
            host.count(counter, by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first cell of a row: the first counter of a family, and what the others have in place of its last part.
    #[test]
    fn the_documentation_has_a_row_for_every_family_and_no_other() {
        let mut cells: Vec<(String, String)> = Vec::new();
        let counters = Counters::define(|name| {
            let (family, label) = name.rsplit_once('.').expect("a family");
            let family = family.replace('.', "_");
            match cells.last_mut() {
                Some((last, cell)) if *last == family => cell.push_str(&format!(", `_{label}`")),
                _ => cells.push((family.clone(), format!("`{family}_{label}`"))),
            }
            Some(())
        });
        assert!(counters.iter().count() > 30);
        for (family, cell) in &mut cells {
            // The page of the gateway lists them.
            if family == "fluxlit_answered" {
                "`fluxlit_answered_`, and the reason".clone_into(cell);
            }
        }
        let page = include_str!("../../envoy/README.md");
        let (_, table) = page.split_once("| counter | counts |").expect("a table");
        let rows: Vec<&str> = table
            .lines()
            .skip(2)
            .map_while(|row| row.strip_prefix("| ")?.split(" |").next())
            .collect();
        let wanted: Vec<&str> = cells.iter().map(|(_, cell)| cell.as_str()).collect();
        assert_eq!(rows, wanted);
    }
}
