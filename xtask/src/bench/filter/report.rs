//! How are the figures told, and what is to be reached?

use std::fmt::Write as _;

use anyhow::Context;
use serde_json::{Value, json};

use super::Options;
use super::variants::{EMPTY, LUA, NONE, VARIANTS, Variant};
use crate::bench::{Spread, spread};

/// What was found out about a variant; times in microseconds of CPU a request.
pub(super) struct Row {
    variant: &'static Variant,
    cpu: f64,
    /// More than with no filter, in the same round.
    overhead: Spread,
    times_empty: f64,
    times_lua: f64,
}

pub(super) fn evaluate(rounds: &[Vec<f64>]) -> anyhow::Result<Vec<Row>> {
    let place = |name| {
        VARIANTS
            .iter()
            .position(|variant| variant.name == name)
            .with_context(|| format!("there is no variant `{name}`"))
    };
    let none = place(NONE)?;
    let overhead = |index: usize| {
        let each = rounds.iter().map(|round| round[index] - round[none]);
        spread(each.collect())
    };
    let (empty, lua) = (overhead(place(EMPTY)?).median, overhead(place(LUA)?).median);
    Ok(VARIANTS
        .iter()
        .enumerate()
        .map(|(index, variant)| {
            let cpu = spread(rounds.iter().map(|round| round[index]).collect());
            let overhead = overhead(index);
            Row {
                variant,
                cpu: cpu.median,
                overhead,
                times_empty: overhead.median / empty,
                times_lua: overhead.median / lua,
            }
        })
        .collect())
}

impl Row {
    /// Whether the targets are met; `None` if they are not about this variant.
    fn targets(&self) -> Option<[(String, bool); 2]> {
        self.variant.is_ours.then(|| {
            [
                (
                    format!("≤ {MOST_TIMES_LUA:.1} × {LUA}"),
                    self.times_lua <= MOST_TIMES_LUA,
                ),
                (
                    format!("≤ {MOST_TIMES_EMPTY:.1} × {EMPTY}"),
                    self.times_empty <= MOST_TIMES_EMPTY,
                ),
            ]
        })
    }
}

pub(super) fn as_table(rows: &[Row]) -> String {
    let mut table = format!(
        "CPU time of Envoy in µs a request; overhead is over `{NONE}`, × is overhead by overhead\n\n{:<24}{:>8}{:>10}{:>16}{:>9}{:>9}  targets\n",
        "", "CPU", "overhead", "quartiles", "× empty", "× lua"
    );
    for row in rows {
        let Spread { low, median, high } = row.overhead;
        let quartiles = format!("{low:.1} to {high:.1}");
        let targets = row.targets().into_iter().flatten();
        let targets: Vec<String> = targets
            .map(|(target, is_met)| format!("{target} {}", if is_met { "met" } else { "MISSED" }))
            .collect();
        let line = format!(
            "{:<24}{:>8.1}{median:>10.1}{quartiles:>16}{:>9.2}{:>9.2}  {}",
            row.variant.name,
            row.cpu,
            row.times_empty,
            row.times_lua,
            targets.join(", ")
        );
        // Writing to a text does not fail.
        let _ = writeln!(table, "{}", line.trim_end());
    }
    table
}

pub(super) fn as_json(options: &Options, rows: &[Row]) -> Value {
    let variants: Vec<Value> = rows
        .iter()
        .map(|row| {
            let targets = row.targets().into_iter().flatten();
            let targets: Vec<Value> = targets
                .map(|(target, is_met)| json!({"target": target, "met": is_met}))
                .collect();
            json!({
                "name": row.variant.name,
                "cpu_us": row.cpu,
                "overhead_us": row.overhead.median,
                "overhead_quartiles_us": [row.overhead.low, row.overhead.high],
                "times_empty": row.times_empty,
                "times_lua": row.times_lua,
                "targets": targets,
            })
        })
        .collect();
    json!({"rounds": options.rounds, "requests": options.requests, "variants": variants})
}

/// What the filter may cost at most, by what the Lua filter costs.
const MOST_TIMES_LUA: f64 = 0.5;

/// What the filter may cost at most, by what a filter costs that does nothing.
const MOST_TIMES_EMPTY: f64 = 2.0;
