//! Prints the figures as text or JSON.
//!
//! Each measurement returns tables and goals.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Options;
use super::rounds::Row;

/// The tables and goals of a measurement.
#[derive(Default)]
pub(super) struct Report {
    pub(super) tables: Vec<Table>,
    pub(super) goals: Vec<Goal>,
}

/// A table with a row for each proxy.
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<(&'static str, Vec<Option<f64>>)>,
}

/// A column of a table.
pub(super) struct Column {
    /// Heading in text.
    pub(super) heading: &'static str,
    /// Key in JSON.
    pub(super) key: &'static str,
    /// Decimal places in text.
    pub(super) places: usize,
}

/// A goal, and the figure that was measured for it.
pub(super) struct Goal {
    text: String,
    found: f64,
    is_met: bool,
}

impl Goal {
    /// Compares a figure with its maximum; returns `None` without a figure.
    pub(super) fn at_most(text: String, found: Option<f64>, limit: f64) -> Option<Self> {
        found.map(|found| Self {
            text,
            found,
            is_met: found <= limit,
        })
    }
}

impl Report {
    pub(super) fn add(&mut self, other: Self) {
        self.tables.extend(other.tables);
        self.goals.extend(other.goals);
    }

    pub(super) fn as_text(&self) -> String {
        let mut text = String::from(
            "Medians; × is the ratio to nginx in the same round. CPU is the time of the proxy's processes. The last column is the share\nof its core that other processes used; if it is high, compare CPU only. wrk's latencies do not include queueing.\n",
        );
        // Writing to a String does not fail.
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
    /// Returns the table with the figures of each row.
    pub(super) fn new<S>(
        title: &str,
        columns: &'static [Column],
        rows: &[Row<'_, S>],
        figures: impl Fn(&Row<'_, S>) -> Vec<Option<f64>>,
    ) -> Self {
        Self {
            title: title.to_owned(),
            columns,
            rows: rows.iter().map(|row| (row.name, figures(row))).collect(),
        }
    }

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
