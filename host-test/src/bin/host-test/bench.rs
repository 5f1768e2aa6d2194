//! Implements `host-test bench`: measures the fuel, time, host calls and memory that a stream costs in a filter.
//!
//! Fuel, host calls and memory are the same on every machine, but nanoseconds are not. So with a second module or
//! configuration everything is also printed as a ratio. The streams of a case run one after the other in one VM, after a
//! warm-up. Memory that grows over all of them is a leak. Streams that end unlike the first one do not count for the means,
//! and are reported, because a mean over both would be the cost of neither.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::ensure;
use host_test::case_file::{Bench, Case, CaseFile, Runner};
use serde_json::json;

use crate::exit::Exit;
use crate::loading::{self, FilterOptions, configuration};
use crate::progress::Progress;
use crate::report;

/// Measure fuel, time, host calls and memory of streams
///
/// The means are those of the streams that end like the first one; the others are counted. Exits with 1 if a stream failed,
/// was left paused or reset, or never ended, unless the case expects that.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    filter: FilterOptions,
    /// Send the first request of each case of these files, or of the *.json files of these folders [default: a plain GET]
    #[arg(long, num_args = 1.., value_name = "PATH")]
    cases: Vec<PathBuf>,
    /// Measure only the case of this name
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// Give the filter this configuration: JSON text that begins with `{`, or a file
    #[arg(long, value_name = "FILE_OR_JSON")]
    config: Option<String>,
    /// Compare with this .wasm file
    #[arg(long, value_name = "FILE")]
    with_filter: Option<PathBuf>,
    /// Compare with this configuration: JSON text that begins with `{`, or a file
    #[arg(long, value_name = "FILE_OR_JSON")]
    with_config: Option<String>,
    /// Run this many streams of each case
    #[arg(long, default_value_t = 10_000)]
    streams: u32,
    /// Keep this many additional streams open during the measurement
    #[arg(long, default_value_t = 0)]
    live: u32,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The costs of one case.
struct Row {
    case: String,
    first: Bench,
    /// With the other module or configuration.
    second: Option<Bench>,
}

pub(crate) fn bench(arguments: &Arguments) -> anyhow::Result<Exit> {
    ensure!(arguments.streams > 0, "--streams: must be at least 1");
    let start = Instant::now();
    let filter = arguments.filter.load()?;
    let load_time = start.elapsed();
    let runner = arguments.filter.runner_of(filter.clone());
    let other = match (&arguments.with_filter, &arguments.with_config) {
        (None, None) => None,
        (Some(path), _) => Some(arguments.filter.load_other(path)?),
        (None, Some(_)) => Some(filter),
    };
    let other = other.map(|filter| arguments.filter.runner_of(filter));
    let files = if arguments.cases.is_empty() {
        let mut file = CaseFile::of_one_get();
        if let Some(config) = &arguments.config {
            file.config_by_default(&configuration(config)?);
        }
        vec![(PathBuf::from("GET"), file)]
    } else {
        loading::cases(&arguments.cases, arguments.config.as_deref())?
    };
    let mut rows = Vec::new();
    for (path, file) in &files {
        let is_selected = |case: &&Case| {
            let name = arguments.case.as_ref();
            name.is_none_or(|name| *name == case.name) && case.request.is_some()
        };
        for case in file.cases.iter().filter(is_selected) {
            let _progress = Progress::start(&format!("measuring {}", case.name));
            let runners = (&runner, other.as_ref());
            rows.push(measure(arguments, runners, path, file, case)?);
        }
    }
    ensure!(
        !rows.is_empty(),
        "no case {}has a request to measure",
        arguments
            .case
            .as_ref()
            .map_or_else(String::new, |name| format!("named `{name}` (--case) "))
    );
    let has_failed = rows
        .iter()
        .any(|row| row.benches().any(|bench| bench.failed > 0));
    report::print(&if arguments.json {
        to_json(&rows)
    } else {
        to_text(&rows, load_time.as_millis(), arguments.streams)
    })?;
    Ok(Exit::failed_if(has_failed))
}

impl Row {
    fn benches(&self) -> impl Iterator<Item = &Bench> {
        std::iter::once(&self.first).chain(&self.second)
    }
}

fn measure(
    arguments: &Arguments,
    (runner, other): (&Runner, Option<&Runner>),
    path: &Path,
    file: &CaseFile,
    case: &Case,
) -> anyhow::Result<Row> {
    let (streams, live) = (arguments.streams, arguments.live);
    let second = match other {
        Some(other) => {
            let mut file = file.clone();
            if let Some(config) = &arguments.with_config {
                file.replace_config(&configuration(config)?);
            }
            Some(other.bench(path, &file, case, streams, live)?)
        }
        None => None,
    };
    Ok(Row {
        case: case.name.clone(),
        first: runner.bench(path, file, case, streams, live)?,
        second,
    })
}

/// A column of the table.
struct Column {
    title: &'static str,
    width: usize,
    cost: fn(&Bench) -> u64,
}

const COLUMNS: [Column; 6] = [
    column("fuel", 9, |bench| bench.fuel),
    column("of host", 9, |bench| bench.abi_fuel),
    column("ns", 9, |bench| bench.nanoseconds),
    column("calls", 6, |bench| bench.calls),
    column("memory", 9, |bench| bench.memory),
    column("growth", 9, |bench| bench.growth),
];

const fn column(title: &'static str, width: usize, cost: fn(&Bench) -> u64) -> Column {
    Column { title, width, cost }
}

fn to_text(rows: &[Row], load_time: u128, streams: u32) -> String {
    let mut text = format!("compiled in {load_time} ms\n");
    text.push_str(&line("a stream of", |column| column.title.to_owned()));
    for Row {
        case,
        first,
        second,
    } in rows
    {
        for bench in std::iter::once(first).chain(second) {
            text.push_str(&line(case, |column| (column.cost)(bench).to_string()));
            text.push_str(&remarks(bench, streams));
        }
        if let Some(second) = second {
            text.push_str(&line("second by first", |column| match column.title {
                "growth" => String::new(),
                _ => ratio((column.cost)(second), (column.cost)(first)),
            }));
        }
    }
    text
}

/// Says what else happened than the cost of the streams.
fn remarks(bench: &Bench, streams: u32) -> String {
    let mut text = String::new();
    let unlike = bench.unlike_first();
    if unlike > 0 {
        let endings: Vec<String> = bench
            .endings
            .iter()
            .map(|(ending, count)| format!("{count} with `{ending}`"))
            .collect();
        text.push_str(&format!(
            "  {unlike} of {streams} streams ended unlike the first, `{}`: {}\n",
            bench.first_ending,
            endings.join(", ")
        ));
        if unlike == u64::from(streams) {
            text.push_str(
                "  no measured stream ended like the first, so only memory is measured\n",
            );
        }
    } else if !bench.first_ending.starts_with("response 2") {
        text.push_str(&format!(
            "  every stream ended with `{}`\n",
            bench.first_ending
        ));
    }
    if let Some(failure) = &bench.failure {
        let failure = failure.replace('\n', "\n    ");
        text.push_str(&format!(
            "  {} of {streams} streams failed, the first one: {failure}\n",
            bench.failed
        ));
    }
    text
}

/// Formats a line with a cell for each column.
fn line(label: &str, cell: impl Fn(&Column) -> String) -> String {
    let mut line: String = COLUMNS
        .iter()
        .map(|column| format!("{:>width$} ", cell(column), width = column.width))
        .collect();
    line.push_str(&format!(" {label}\n"));
    line
}

fn ratio(second: u64, first: u64) -> String {
    if first == 0 {
        return "-".to_owned();
    }
    let hundredths = u128::from(second) * 100 / u128::from(first);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn to_json(rows: &[Row]) -> String {
    let costs = |bench: &Bench| {
        json!({
            "fuel": bench.fuel,
            "abi_fuel": bench.abi_fuel,
            "nanoseconds": bench.nanoseconds,
            "calls": bench.calls,
            "memory": bench.memory,
            "growth": bench.growth,
            "first_ending": bench.first_ending,
            "endings": bench.endings,
            "unlike_first": bench.unlike_first(),
            "failed": bench.failed,
            "failure": bench.failure,
        })
    };
    let values: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            json!({
                "case": row.case,
                "first": costs(&row.first),
                "second": row.second.as_ref().map(costs),
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(values))
}
