//! Defines the counts of an exchange, their file, and the comparison with recorded counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use crate::bench::callgrind::Counted;

/// What one exchange costs, or several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Counts([f64; KINDS.len()]);

/// The counts of each exchange, by its name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Table(BTreeMap<String, Counts>);

/// The counts that differ by more than the tolerance, as lines for people.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) dearer: Vec<String>,
    pub(super) cheaper: Vec<String>,
}

impl Counts {
    fn new(counts: [u64; KINDS.len()]) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        Self(counts.map(|count| count as f64))
    }

    pub(super) fn divided_by(self, exchanges: u32) -> Self {
        Self(self.0.map(|count| count / f64::from(exchanges)))
    }

    /// Returns the lower one of each count.
    pub(super) fn min(self, other: Self) -> Self {
        let mut lowest = self.0;
        for (lowest, other) in lowest.iter_mut().zip(other.0) {
            *lowest = lowest.min(other);
        }
        Self(lowest)
    }
}

impl From<Counted> for Counts {
    fn from(counted: Counted) -> Self {
        Self::new([
            counted.instructions,
            counted.system_calls,
            counted.clock_readings,
            counted.allocations,
        ])
    }
}

impl Table {
    pub(super) fn add(&mut self, name: &str, counts: Counts) {
        self.0.insert(name.to_owned(), counts);
    }

    /// Compares each count with the recorded one. An exchange that is in one table only is dearer, so that neither a new one
    /// nor a removed one goes unrecorded.
    pub(super) fn compare(&self, recorded: &Self) -> Difference {
        let mut difference = Difference::default();
        for (name, now) in &self.0 {
            let Some(before) = recorded.0.get(name) else {
                difference.dearer.push(format!("{name}: not recorded"));
                continue;
            };
            for ((kind, now), before) in KINDS.iter().zip(now.0).zip(before.0) {
                let line = || format!("{name}: {now:.1} {kind}, recorded {before:.1}");
                let margin = before * TOLERANCE + SLACK;
                if now > before + margin {
                    difference.dearer.push(line());
                } else if now < before - margin {
                    difference.cheaper.push(line());
                }
            }
        }
        let missing = recorded.0.keys().filter(|name| !self.0.contains_key(*name));
        let missing = missing.map(|name| format!("{name}: recorded, but no longer counted"));
        difference.dearer.extend(missing);
        difference
    }

    pub(super) fn as_text(&self, program: &str) -> String {
        let mut text = format!("{program:<36}");
        // Writing to a String does not fail.
        for kind in KINDS {
            let _ = write!(text, "  {kind:>14}");
        }
        for (name, Counts(counts)) in &self.0 {
            let _ = write!(text, "\n{name:<36}");
            for count in counts {
                let _ = write!(text, "  {count:>14.1}");
            }
        }
        text.push('\n');
        text
    }

    /// Writes the table with one decimal place, which is more exact than the tolerance.
    pub(super) fn as_json(&self) -> String {
        let exchanges = self.0.iter().map(|(name, counts)| {
            let counts = KINDS.iter().zip(counts.0);
            let counts = counts
                .map(|(kind, count)| ((*kind).to_owned(), json!((count * 10.0).round() / 10.0)));
            (name.clone(), Value::Object(counts.collect::<Map<_, _>>()))
        });
        format!("{:#}\n", Value::Object(exchanges.collect::<Map<_, _>>()))
    }

    pub(super) fn from_json(text: &str) -> anyhow::Result<Self> {
        let exchanges: BTreeMap<String, BTreeMap<String, f64>> =
            serde_json::from_str(text).context("not a table of counts")?;
        let mut table = Self::default();
        for (name, recorded) in exchanges {
            let mut counts = [0.0; KINDS.len()];
            ensure!(
                recorded.len() == KINDS.len(),
                "{name}: expected {}",
                KINDS.join(", ")
            );
            for (count, kind) in counts.iter_mut().zip(KINDS) {
                *count = *recorded
                    .get(kind)
                    .with_context(|| format!("{name} has no {kind}"))?;
            }
            table.0.insert(name, Counts(counts));
        }
        Ok(table)
    }
}

/// What is counted.
const KINDS: [&str; 4] = [
    "instructions",
    "system calls",
    "clock readings",
    "allocations",
];

/// How much a count may differ from the recorded one, as a share of it.
const TOLERANCE: f64 = 0.05;

/// How much it may differ in addition: one event in ten exchanges, for counts that are near zero.
const SLACK: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(counts: [u64; 4]) -> Table {
        let mut table = Table::default();
        table.add("GET", Counts::new(counts));
        table
    }

    #[test]
    fn only_differences_beyond_the_tolerance_are_reported() {
        let recorded = table([20_000, 8, 4, 0]);
        for (now, dearer, cheaper) in [
            ([20_000, 8, 4, 0], 0, 0),
            ([21_000, 8, 4, 0], 0, 0),
            ([21_001, 8, 4, 0], 1, 0),
            ([19_000, 8, 4, 0], 0, 0),
            ([18_999, 8, 4, 0], 0, 1),
            ([20_000, 9, 4, 1], 2, 0),
            ([20_000, 7, 3, 0], 0, 2),
            ([30_000, 7, 4, 0], 1, 1),
        ] {
            let difference = table(now).compare(&recorded);
            let found = (difference.dearer.len(), difference.cheaper.len());
            assert_eq!(found, (dearer, cheaper), "{now:?}: {difference:?}");
        }
    }

    #[test]
    fn an_exchange_that_is_not_in_both_tables_is_reported() {
        let counted = table([1, 1, 1, 1]);
        let nothing = Table::default();
        assert_eq!(counted.compare(&nothing).dearer, ["GET: not recorded"]);
        let missing = nothing.compare(&counted).dearer;
        assert_eq!(missing, ["GET: recorded, but no longer counted"]);
    }

    #[test]
    fn a_written_table_is_read_back() {
        let written = table([123_456, 8, 4, 0]);
        assert_eq!(Table::from_json(&written.as_json()).unwrap(), written);
        for other in ["[]", r#"{"GET": {"instructions": 1}}"#, r#"{"GET": 1}"#] {
            assert!(Table::from_json(other).is_err(), "{other}");
        }
    }

    #[test]
    fn the_lowest_of_several_series_counts() {
        let lowest = Counts::new([10, 4, 8, 0]).min(Counts::new([12, 2, 8, 2]));
        assert_eq!(lowest.divided_by(2), Counts::new([5, 1, 4, 0]));
    }
}
