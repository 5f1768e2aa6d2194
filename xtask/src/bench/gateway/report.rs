//! How are the figures told?
//!
//! A ratio is the median of the ratios of each round, not the ratio of two medians.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Options;
use super::http::{LARGE_64, SETTINGS, SMALL_64, Setting, Turn, Turns, Unit};
use super::proxies::{NGINX, OURS};
use crate::bench::spread;

/// Everything that was measured.
pub(super) struct Report {
    pub(super) http: Turns,
}

/// What was found out about a proxy under one load.
struct Row {
    name: &'static str,
    cpu_us: Option<f64>,
    cpu_ratio: Option<f64>,
    requests_per_second: f64,
    requests_ratio: f64,
    p50_ms: f64,
    p99_ms: f64,
    p99_ratio: f64,
    resident: Option<f64>,
}

/// Something to reach, and by how much it was.
struct Goal {
    text: String,
    found: f64,
    is_met: bool,
}

impl Report {
    pub(super) fn as_text(&self) -> String {
        let mut text = String::from(
            "Medians; × is to nginx in the same round. CPU is of the proxy's processes. The latencies are wrk's, which hide queueing.\n",
        );
        for (setting, rows) in self.http() {
            let per = match setting.unit {
                Unit::Mebibyte => "MiB",
                Unit::Request => "request",
            };
            // Writing to a text does not fail.
            let _ = writeln!(
                text,
                "\n{:<24}{:>14}{:>9}{:>13}{:>9}{:>9}{:>9}{:>9}{:>9}",
                setting.name,
                format!("CPU µs/{per}"),
                "× nginx",
                "requests/s",
                "× nginx",
                "p50 ms",
                "p99 ms",
                "× nginx",
                "RSS MiB",
            );
            for row in rows {
                let _ = writeln!(
                    text,
                    "{:<24}{:>14}{:>9}{:>13.0}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9}",
                    row.name,
                    figure(row.cpu_us, 1),
                    figure(row.cpu_ratio, 2),
                    row.requests_per_second,
                    row.requests_ratio,
                    row.p50_ms,
                    row.p99_ms,
                    row.p99_ratio,
                    figure(row.resident.map(mebibytes), 1),
                );
            }
        }
        text.push('\n');
        for goal in self.goals() {
            let verdict = if goal.is_met { "met" } else { "MISSED" };
            let _ = writeln!(text, "{}: {:.2}, {verdict}", goal.text, goal.found);
        }
        text
    }

    pub(super) fn as_json(&self, options: &Options) -> Value {
        let http: Vec<Value> = self
            .http()
            .map(|(setting, rows)| {
                let rows: Vec<Value> = rows
                    .into_iter()
                    .map(|row| {
                        json!({
                            "name": row.name,
                            "cpu_us": row.cpu_us,
                            "cpu_times_nginx": row.cpu_ratio,
                            "requests_per_second": row.requests_per_second,
                            "requests_per_second_times_nginx": row.requests_ratio,
                            "p50_ms": row.p50_ms,
                            "p99_ms": row.p99_ms,
                            "p99_times_nginx": row.p99_ratio,
                            "resident_bytes": row.resident,
                        })
                    })
                    .collect();
                let per = match setting.unit {
                    Unit::Mebibyte => "MiB",
                    Unit::Request => "request",
                };
                json!({"load": setting.name, "cpu_per": per, "proxies": rows})
            })
            .collect();
        let goals: Vec<Value> = self
            .goals()
            .into_iter()
            .map(|goal| json!({"target": goal.text, "found": goal.found, "met": goal.is_met}))
            .collect();
        json!({
            "rounds": options.rounds,
            "seconds": options.seconds,
            "http": http,
            "targets": goals,
        })
    }

    fn http(&self) -> impl Iterator<Item = (&Setting, Vec<Row>)> {
        let names = &self.http.names;
        SETTINGS
            .iter()
            .zip(&self.http.by_setting)
            .map(|(setting, turns)| (setting, rows(names, turns)))
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for (setting, rows) in self.http() {
            let of = |name| rows.iter().find(|row| row.name == name);
            let (Some(ours), Some(nginx)) = (of(OURS), of(NGINX)) else {
                continue;
            };
            let what = setting.name;
            if [SMALL_64, LARGE_64].contains(&what) {
                goals.push(at_most(
                    &format!("CPU at most 1.0 × nginx, {what}"),
                    ours.cpu_ratio.unwrap_or(f64::NAN),
                    1.0,
                ));
            }
            if what == SMALL_64 {
                goals.push(at_most(
                    &format!("p99 at most 1.0 × nginx, {what}"),
                    ours.p99_ratio,
                    1.0,
                ));
            }
            if [SMALL_64, LARGE_64].contains(&what)
                && let (Some(ours), Some(nginx)) = (ours.resident, nginx.resident)
            {
                goals.push(at_most(
                    &format!("RSS at most 10 MiB over nginx, {what}"),
                    mebibytes(ours - nginx),
                    10.0,
                ));
            }
        }
        goals
    }
}

fn rows(names: &[&'static str], turns: &[Vec<Turn>]) -> Vec<Row> {
    let nginx = names
        .iter()
        .position(|name| *name == NGINX)
        .and_then(|index| turns.get(index))
        .map_or(&[][..], Vec::as_slice);
    names
        .iter()
        .zip(turns)
        .map(|(name, own)| {
            let median = |figure: fn(&Turn) -> Option<f64>| median(own.iter().filter_map(figure));
            let ratio = |figure: fn(&Turn) -> Option<f64>| {
                let pairs = own.iter().zip(nginx);
                self::median(pairs.filter_map(|(own, nginx)| Some(figure(own)? / figure(nginx)?)))
            };
            let requests_per_second = |turn: &Turn| Some(turn.requests_per_second);
            let p99 = |turn: &Turn| Some(turn.p99_ms);
            #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
            let resident = |turn: &Turn| turn.resident.map(|bytes| bytes as f64);
            Row {
                name,
                cpu_us: median(|turn| turn.cpu_us),
                cpu_ratio: ratio(|turn| turn.cpu_us),
                requests_per_second: median(requests_per_second).unwrap_or(f64::NAN),
                requests_ratio: ratio(requests_per_second).unwrap_or(f64::NAN),
                p50_ms: median(|turn| Some(turn.p50_ms)).unwrap_or(f64::NAN),
                p99_ms: median(p99).unwrap_or(f64::NAN),
                p99_ratio: ratio(p99).unwrap_or(f64::NAN),
                resident: median(resident),
            }
        })
        .collect()
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| spread(values).median)
}

fn at_most(text: &str, found: f64, limit: f64) -> Goal {
    Goal {
        text: text.to_owned(),
        found,
        is_met: found <= limit,
    }
}

fn figure(value: Option<f64>, places: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.places$}"))
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
