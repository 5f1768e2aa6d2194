//! Prints the measured figures, and compares them with the targets.

use std::fmt::Write as _;

use anyhow::Context;
use serde_json::{Value, json};

use super::Options;
use super::exchange::Workload;
use super::variants::{EMPTY, LUA, NONE, Variant};
use crate::bench::{Spread, spread};

/// The figures of a workload.
pub(super) struct Table<'a> {
    workload: Workload,
    rows: Vec<Row<'a>>,
}

/// The figures of a variant, in microseconds of CPU time.
struct Row<'a> {
    variant: &'a Variant,
    cpu: f64,
    /// The difference from no filter in the same round.
    overhead: Spread,
    /// Ratios of overheads; `None` where the reference does not run the workload.
    times_empty: Option<f64>,
    times_lua: Option<f64>,
}

/// Evaluates the rounds of a workload, which have a figure for each of these variants.
pub(super) fn evaluate<'a>(
    workload: Workload,
    variants: &[&'a Variant],
    rounds: &[Vec<f64>],
) -> anyhow::Result<Table<'a>> {
    let find = |name| variants.iter().position(|variant| variant.name == name);
    let none = find(NONE).context("there is no variant without a filter")?;
    let overhead = |index: usize| {
        let each = rounds.iter().map(|round| round[index] - round[none]);
        spread(each.collect())
    };
    // The overheads of frames and bodies are about zero, so their ratios have no meaning.
    let reference = |name| {
        find(name)
            .filter(|_| workload == Workload::Request)
            .map(|index| overhead(index).median)
    };
    let (empty, lua) = (reference(EMPTY), reference(LUA));
    let rows = variants
        .iter()
        .enumerate()
        .map(|(index, &variant)| {
            let cpu = spread(rounds.iter().map(|round| round[index]).collect());
            let overhead = overhead(index);
            Row {
                variant,
                cpu: cpu.median,
                overhead,
                times_empty: empty.map(|empty| overhead.median / empty),
                times_lua: lua.map(|lua| overhead.median / lua),
            }
        })
        .collect();
    Ok(Table { workload, rows })
}

impl Row<'_> {
    /// Returns the targets, and whether each is met; none if they do not apply to this variant.
    fn targets(&self) -> Vec<(String, bool)> {
        let (Some(times_lua), Some(times_empty), true) =
            (self.times_lua, self.times_empty, self.variant.is_ours)
        else {
            return Vec::new();
        };
        vec![
            (
                format!("≤ {MAX_TIMES_LUA:.1} × {LUA}"),
                times_lua <= MAX_TIMES_LUA,
            ),
            (
                format!("≤ {MAX_TIMES_EMPTY:.1} × {EMPTY}"),
                times_empty <= MAX_TIMES_EMPTY,
            ),
        ]
    }

    fn as_json(&self) -> Value {
        let targets: Vec<Value> = self
            .targets()
            .into_iter()
            .map(|(target, is_met)| json!({"target": target, "met": is_met}))
            .collect();
        json!({
            "name": self.variant.name,
            "cpu_us": self.cpu,
            "overhead_us": self.overhead.median,
            "overhead_quartiles_us": [self.overhead.low, self.overhead.high],
            "times_empty": self.times_empty,
            "times_lua": self.times_lua,
            "targets": targets,
        })
    }
}

pub(super) fn as_text(table: &Table<'_>) -> String {
    let mut text = format!(
        "CPU time of Envoy in µs for one {}; overhead is over `{NONE}`, × is the ratio of overheads\n\n{:<24}{:>8}{:>10}{:>16}{:>9}{:>9}  targets\n",
        table.workload.name(),
        "",
        "CPU",
        "overhead",
        "quartiles",
        "× empty",
        "× lua"
    );
    let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    for row in &table.rows {
        let Spread { low, median, high } = row.overhead;
        let quartiles = format!("{low:.1} to {high:.1}");
        let targets: Vec<String> = row
            .targets()
            .into_iter()
            .map(|(target, is_met)| format!("{target} {}", if is_met { "met" } else { "MISSED" }))
            .collect();
        let line = format!(
            "{:<24}{:>8.1}{median:>10.1}{quartiles:>16}{:>9}{:>9}  {}",
            row.variant.name,
            row.cpu,
            ratio(row.times_empty),
            ratio(row.times_lua),
            targets.join(", ")
        );
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

pub(super) fn as_json(options: &Options, tables: &[Table<'_>]) -> Value {
    let mut report = json!({"rounds": options.rounds, "requests": options.requests});
    for table in tables {
        let key = match table.workload {
            Workload::Request => "variants",
            Workload::Frame => "websocket_frames",
            Workload::Body => "bodies",
        };
        report[key] = table.rows.iter().map(Row::as_json).collect();
    }
    report
}

/// The maximum overhead of the filter, as a multiple of the Lua filter's.
const MAX_TIMES_LUA: f64 = 0.5;

/// The maximum overhead of the filter, as a multiple of a filter that does nothing.
const MAX_TIMES_EMPTY: f64 = 2.0;
