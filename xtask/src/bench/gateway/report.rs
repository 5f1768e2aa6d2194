//! How are the figures told?
//!
//! Each measurement hands over tables and what is to be reached; here they become text or JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Options;

/// What a measurement has found.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) tables: Vec<Table>,
    pub(super) goals: Vec<Goal>,
}

/// Figures, with a row for each proxy.
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<(&'static str, Vec<Option<f64>>)>,
}

/// What a column shows.
pub(super) struct Column {
    /// As it is headed in text.
    pub(super) heading: &'static str,
    /// As it is named in JSON.
    pub(super) key: &'static str,
    /// Decimal places in text.
    pub(super) places: usize,
}

/// Something to reach, and how far it was reached.
pub(super) struct Goal {
    text: String,
    found: f64,
    is_met: bool,
}

impl Goal {
    /// At most so much; nothing to tell without a figure.
    pub(super) fn at_most(text: String, found: Option<f64>, limit: f64) -> Option<Self> {
        found.map(|found| Self {
            text,
            found,
            is_met: found <= limit,
        })
    }
}

impl Findings {
    pub(super) fn add(&mut self, other: Self) {
        self.tables.extend(other.tables);
        self.goals.extend(other.goals);
    }

    pub(super) fn as_text(&self) -> String {
        let mut text = String::from(
            "Medians; × is the ratio to nginx in the same round. CPU is that of the proxy's processes. Latencies are wrk's, which hide queueing.\n",
        );
        // Writing to a text does not fail.
        for table in &self.tables {
            let _ = write!(text, "\n{}", table.as_text());
        }
        text.push('\n');
        for Goal {
            text: goal,
            found,
            is_met,
        } in &self.goals
        {
            let verdict = if *is_met { "met" } else { "MISSED" };
            let _ = writeln!(text, "{verdict:<8}{found:>8.2}  {goal}");
        }
        text
    }

    pub(super) fn as_json(&self, options: &Options) -> Value {
        let tables: Vec<Value> = self.tables.iter().map(Table::as_json).collect();
        let goals: Vec<Value> = self
            .goals
            .iter()
            .map(|goal| json!({"target": goal.text, "found": goal.found, "met": goal.is_met}))
            .collect();
        json!({
            "rounds": options.rounds,
            "seconds": options.seconds,
            "tables": tables,
            "targets": goals,
        })
    }
}

impl Table {
    fn as_text(&self) -> String {
        let mut text = format!("{}\n{:<10}", self.title, "");
        for column in self.columns {
            let _ = write!(text, "  {:>MIN_WIDTH$}", column.heading);
        }
        for (name, figures) in &self.rows {
            let _ = write!(text, "\n{name:<10}");
            for (column, figure) in self.columns.iter().zip(figures) {
                let figure = figure.map_or_else(
                    || "-".to_owned(),
                    |figure| format!("{figure:.*}", column.places),
                );
                let width = column.heading.chars().count().max(MIN_WIDTH);
                let _ = write!(text, "  {figure:>width$}");
            }
        }
        text.push('\n');
        text
    }

    fn as_json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(name, figures)| {
                let mut row = Map::new();
                row.insert("name".to_owned(), json!(name));
                for (column, figure) in self.columns.iter().zip(figures) {
                    row.insert(column.key.to_owned(), json!(figure));
                }
                Value::Object(row)
            })
            .collect();
        json!({"title": self.title, "rows": rows})
    }
}

const MIN_WIDTH: usize = 8;
