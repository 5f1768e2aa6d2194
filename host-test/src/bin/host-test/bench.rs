//! `host-test bench`: what does a stream cost in the filter?
//!
//! Fuel, host calls and memory are the same on every machine; nanoseconds are not, so with a second module or
//! configuration everything is told as a ratio as well. Each case's streams run one after the other in one VM, after a
//! few that warm it up; memory that grows over all of them is a leak.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::ensure;
use host_test::case_file::{Bench, Case, CaseFile, Runner};
use serde_json::json;

use super::Ending;
use super::loading::{Loading, configuration};
use super::run::load_cases;

/// Measure fuel, time, host calls and memory of streams
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    loading: Loading,
    /// Send the first request of each case of these files; a plain GET if none are given
    #[arg(long, num_args = 1.., value_name = "PATH")]
    cases: Vec<PathBuf>,
    /// Measure the case of this name only
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// Give the filter this configuration: JSON text that begins with `{`, or a file
    #[arg(long, value_name = "FILE_OR_JSON")]
    config: Option<String>,
    /// Compare with this module
    #[arg(long, value_name = "FILE")]
    with_filter: Option<PathBuf>,
    /// Compare with this configuration
    #[arg(long, value_name = "FILE_OR_JSON")]
    with_config: Option<String>,
    /// Run this many streams of each case
    #[arg(long, default_value_t = 10_000)]
    streams: u32,
    /// Keep this many more streams open meanwhile
    #[arg(long, default_value_t = 0)]
    live: u32,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

struct Row {
    name: String,
    one: Bench,
    two: Option<Bench>,
}

pub(super) fn bench(arguments: &Arguments) -> anyhow::Result<Ending> {
    ensure!(arguments.streams > 0, "--streams: at least 1");
    let start = Instant::now();
    let filter = arguments.loading.load()?;
    let loading = start.elapsed();
    let mut runner = Runner::new(filter);
    runner.options.profile = arguments.loading.rules.profile;
    let other = match (&arguments.with_filter, &arguments.with_config) {
        (None, None) => None,
        (Some(path), _) => {
            let options = arguments.loading.rules.load_options();
            Some(Runner::new(host_test::Filter::load_with(path, options)?))
        }
        (None, Some(_)) => Some(Runner::new(runner.filter().clone())),
    };
    let files = if arguments.cases.is_empty() {
        let mut file = CaseFile::of_one_get();
        if let Some(config) = &arguments.config {
            file.config_by_default(&configuration(config)?);
        }
        vec![(PathBuf::from("GET"), file)]
    } else {
        load_cases(&arguments.cases, arguments.config.as_deref(), true)?
    };
    let mut rows = Vec::new();
    for (path, file) in &files {
        let is_wanted = |case: &&Case| {
            arguments
                .case
                .as_ref()
                .is_none_or(|name| *name == case.name)
        };
        for case in file.cases.iter().filter(is_wanted) {
            if case.request.is_none() {
                continue;
            }
            rows.push(measure(
                arguments,
                (&runner, other.as_ref()),
                path,
                file,
                case,
            )?);
        }
    }
    ensure!(
        !rows.is_empty(),
        "there is no case with a request to measure"
    );
    let text = if arguments.json {
        to_json(&rows)
    } else {
        to_text(&rows, loading.as_millis())
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Ending::Done)
}

fn measure(
    arguments: &Arguments,
    (runner, other): (&Runner, Option<&Runner>),
    path: &Path,
    file: &CaseFile,
    case: &Case,
) -> anyhow::Result<Row> {
    let two = match other {
        Some(other) => {
            let mut file = file.clone();
            if let Some(config) = &arguments.with_config {
                file.replace_config(&configuration(config)?);
            }
            Some(other.bench(path, &file, case, arguments.streams, arguments.live)?)
        }
        None => None,
    };
    Ok(Row {
        name: case.name.clone(),
        one: runner.bench(path, file, case, arguments.streams, arguments.live)?,
        two,
    })
}

fn to_text(rows: &[Row], loading: u128) -> String {
    let mut text = format!("compiled in {loading} ms\n");
    text.push_str(&format!(
        "{:>9} {:>9} {:>9} {:>6} {:>9} {:>9}  {}\n",
        "fuel", "of host", "ns", "calls", "memory", "growth", "a stream of"
    ));
    for Row { name, one, two } in rows {
        for bench in std::iter::once(one).chain(two) {
            text.push_str(&format!(
                "{:>9} {:>9} {:>9} {:>6} {:>9} {:>9}  {name}\n",
                bench.fuel,
                bench.abi_fuel,
                bench.nanoseconds,
                bench.calls,
                bench.memory,
                bench.growth
            ));
        }
        if let Some(two) = two {
            text.push_str(&format!(
                "{:>9} {:>9} {:>9} {:>6} {:>9} {:>9}  second by first\n",
                ratio(two.fuel, one.fuel),
                ratio(two.abi_fuel, one.abi_fuel),
                ratio(two.nanoseconds, one.nanoseconds),
                ratio(two.calls, one.calls),
                ratio(two.memory, one.memory),
                ""
            ));
        }
    }
    text
}

fn ratio(two: u64, one: u64) -> String {
    if one == 0 {
        return "-".to_owned();
    }
    let hundredths = u128::from(two) * 100 / u128::from(one);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn to_json(rows: &[Row]) -> String {
    let values: Vec<serde_json::Value> = rows
        .iter()
        .map(|Row { name, one, two }| {
            let value = |bench: &Bench| {
                json!({
                    "fuel": bench.fuel,
                    "abi_fuel": bench.abi_fuel,
                    "nanoseconds": bench.nanoseconds,
                    "calls": bench.calls,
                    "memory": bench.memory,
                    "growth": bench.growth,
                })
            };
            json!({"case": name, "first": value(one), "second": two.as_ref().map(value)})
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(values))
}
