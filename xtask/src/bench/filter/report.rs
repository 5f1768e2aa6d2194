//! Prints the measured figures, and compares them with the targets.

use std::fmt::Write as _;

use anyhow::Context;
use serde_json::{Value, json};

use super::exchange::Workload;
use super::variants::{EMPTY, Form, HEADER_MUTATION, LUA, NONE, SHORT_LUA, Variant};
use crate::bench::{Spread, spread};

/// What the figures of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Microseconds of CPU time.
    CpuTime,
    /// Thousands of instructions.
    Instructions,
}

/// The figures of a workload.
pub(super) struct Table<'a> {
    unit: Unit,
    workload: Workload,
    rows: Vec<Row<'a>>,
}

/// The figures of a variant.
struct Row<'a> {
    variant: &'a Variant,
    has_targets: bool,
    cost: f64,
    /// The difference from no filter in the same round.
    overhead: Spread,
    /// Ratios to the overheads of [`REFERENCES`]; `None` where the reference does not run the workload.
    times: [Option<f64>; REFERENCES.len()],
}

/// Evaluates the rounds of a workload, which have a figure for each of these variants.
pub(super) fn evaluate<'a>(
    unit: Unit,
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
            .filter(|_| matches!(workload, Workload::Direct | Workload::Request))
            .map(|index| overhead(index).median)
    };
    let references = REFERENCES.map(reference);
    let rows = variants
        .iter()
        .enumerate()
        .map(|(index, &variant)| {
            let cost = spread(rounds.iter().map(|round| round[index]).collect());
            let overhead = overhead(index);
            Row {
                variant,
                cost: cost.median,
                overhead,
                times: references.map(|reference| Some(overhead.median / reference?)),
                has_targets: workload == Workload::Direct,
            }
        })
        .collect();
    Ok(Table {
        unit,
        workload,
        rows,
    })
}

impl Row<'_> {
    /// Returns the targets, and whether each is met; none if they do not apply to this row.
    fn targets(&self) -> Vec<(String, bool)> {
        let each = REFERENCES.iter().zip(self.times);
        let each = each.filter(|_| self.has_targets);
        each.filter_map(|(reference, times)| {
            let (.., max) = TARGETS
                .iter()
                .find(|(form, name, _)| Some(*form) == self.variant.form && name == reference)?;
            Some((format!("≤ {max:.2} × {reference}"), times? <= *max))
        })
        .collect()
    }

    fn as_json(&self) -> Value {
        let targets: Vec<Value> = self
            .targets()
            .into_iter()
            .map(|(target, is_met)| json!({"target": target, "met": is_met}))
            .collect();
        let times: serde_json::Map<String, Value> = REFERENCES
            .iter()
            .zip(self.times)
            .map(|(reference, times)| ((*reference).to_owned(), json!(times)))
            .collect();
        json!({
            "name": self.variant.name,
            "cost": self.cost,
            "overhead": self.overhead.median,
            "overhead_quartiles": [self.overhead.low, self.overhead.high],
            "times": times,
            "targets": targets,
        })
    }
}

pub(super) fn as_text(table: &Table<'_>) -> String {
    let mut text = format!(
        "{} of Envoy for one {}; overhead is over `{NONE}`, × is the ratio of overheads\n\n{:<24}{:>8}{:>10}{:>16}",
        match table.unit {
            Unit::CpuTime => "CPU time, in µs,",
            Unit::Instructions => "Thousands of instructions",
        },
        table.workload.name(),
        "",
        "cost",
        "overhead",
        "quartiles",
    );
    for reference in REFERENCES {
        let _ = write!(text, "{:>19}", format!("× {reference}"));
    }
    text.push_str("  targets\n");
    for row in &table.rows {
        let Spread { low, median, high } = row.overhead;
        let quartiles = format!("{low:.1} to {high:.1}");
        let targets: Vec<String> = row
            .targets()
            .into_iter()
            .map(|(target, is_met)| format!("{target} {}", if is_met { "met" } else { "MISSED" }))
            .collect();
        let ratios: String = row
            .times
            .iter()
            .map(|times| match times {
                Some(times) => format!("{times:>19.2}"),
                None => format!("{:>19}", ""),
            })
            .collect();
        let line = format!(
            "{:<24}{:>8.1}{median:>10.1}{quartiles:>16}{ratios}  {}",
            row.variant.name,
            row.cost,
            targets.join(", ")
        );
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

pub(super) fn as_json(tables: &[Table<'_>]) -> Value {
    let mut report = json!({});
    for table in tables {
        report["unit"] = json!(match table.unit {
            Unit::CpuTime => "µs",
            Unit::Instructions => "1000 instructions",
        });
        let key = match table.workload {
            Workload::Direct => "direct_responses",
            Workload::Request => "variants",
            Workload::Frame => "websocket_frames",
            Workload::Body => "bodies",
        };
        report[key] = table.rows.iter().map(Row::as_json).collect();
    }
    report
}

/// The variants whose overheads the others are compared with.
const REFERENCES: [&str; 4] = [EMPTY, HEADER_MUTATION, SHORT_LUA, LUA];

/// The maximum overhead of each form for a direct response, as multiples of these variants'.
const TARGETS: [(Form, &str, f64); 4] = [
    (Form::Filter, SHORT_LUA, 1.2),
    (Form::Filter, LUA, 0.65),
    (Form::DynamicModule, SHORT_LUA, 0.45),
    (Form::DynamicModule, HEADER_MUTATION, 1.5),
];
