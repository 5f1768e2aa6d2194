//! Measures the cost of HTTP requests.
//!
//! Responses are small or large, connections few or many. For small responses, CPU time is divided by the number of
//! requests; for large ones by bytes, so that requests that are unfinished when the time is up count as well.

use anyhow::Context;

use super::file_server::{FileServer, LARGE, SMALL};
use super::proxies::{self, OURS, Programs, Target};
use super::report::{Column, Goal, Report, Table};
use super::rounds::{self, Row};
use super::usage::{Meter, resident};
use super::wrk::{self, Load};
use super::{Bench, mebibytes};

/// A load, and the unit that its CPU time is divided by.
struct Setting {
    name: &'static str,
    load: Load,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Unit {
    Mebibyte,
    Request,
}

const SETTINGS: [Setting; 6] = [
    small("GET 1 KiB, 1 connection, CPU per request", 1),
    small("GET 1 KiB, 64 connections, CPU per request", 64),
    small("GET 1 KiB, 512 connections, CPU per request", 512),
    large("GET 1 MiB, 1 connection, CPU per MiB", 1),
    large("GET 1 MiB, 64 connections, CPU per MiB", 64),
    large("GET 1 MiB, 512 connections, CPU per MiB", 512),
];

const fn small(name: &'static str, connections: u32) -> Setting {
    Setting {
        name,
        load: Load {
            file: SMALL,
            connections,
        },
        unit: Unit::Request,
    }
}

const fn large(name: &'static str, connections: u32) -> Setting {
    Setting {
        name,
        load: Load {
            file: LARGE,
            connections,
        },
        unit: Unit::Mebibyte,
    }
}

/// Figures of one proxy in one round.
#[derive(Clone, Copy)]
struct Sample {
    /// CPU time in µs per unit; `None` without a proxy.
    cpu: Option<f64>,
    rate: f64,
    p50: Option<f64>,
    p99: Option<f64>,
    /// Highest resident memory observed, in MiB, including memory kept from earlier rounds; `None` without a proxy.
    resident: Option<f64>,
    errors: f64,
    /// Share of the core that other processes used, in percent.
    others: f64,
}

pub(super) fn measure(bench: &Bench<'_>, programs: &Programs) -> anyhow::Result<Report> {
    let files = FileServer::serve(bench, programs)?;
    let targets = proxies::start_all(bench, programs, files.address)?;
    let rounds = rounds::measure(
        bench,
        &targets,
        &SETTINGS,
        |setting| setting.name,
        |target, setting| sample(bench, programs, target, setting),
    )?;
    let mut report = Report::default();
    for (setting, rows) in SETTINGS.iter().zip(rounds.rows()) {
        report.goals.extend(goals(setting, &rows));
        report.tables.push(table(setting, &rows));
    }
    Ok(report)
}

fn sample(
    bench: &Bench<'_>,
    programs: &Programs,
    target: &Target,
    setting: &Setting,
) -> anyhow::Result<Sample> {
    let id = target.id();
    let meter = Meter::start(bench, id)?;
    let mut largest = None;
    let outcome = wrk::run(bench, programs, target.address, &setting.load, || {
        largest = largest.max(id.map(resident).transpose()?);
        Ok(())
    })
    .context("wrk")?;
    let spent = meter.stop(bench)?;
    let units = match setting.unit {
        Unit::Mebibyte => outcome.bytes / f64::from(1 << 20),
        Unit::Request => outcome.requests,
    };
    let has_responses = outcome.requests > 0.0;
    Ok(Sample {
        cpu: spent
            .cpu
            .filter(|_| units > 0.0)
            .map(|cpu| cpu.as_secs_f64() * 1e6 / units),
        rate: outcome.requests / outcome.seconds,
        p50: has_responses.then_some(outcome.p50_ms),
        p99: has_responses.then_some(outcome.p99_ms),
        resident: largest.map(mebibytes),
        errors: outcome.errors,
        others: spent.others,
    })
}

fn table(setting: &Setting, rows: &[Row<'_, Sample>]) -> Table {
    Table {
        title: setting.name.to_owned(),
        columns: &COLUMNS,
        rows: rows
            .iter()
            .map(|row| {
                let figures = vec![
                    row.median(|sample| sample.cpu),
                    row.ratio(|sample| sample.cpu),
                    row.median(|sample| Some(sample.rate)),
                    row.ratio(|sample| Some(sample.rate)),
                    row.median(|sample| sample.p50),
                    row.median(|sample| sample.p99),
                    row.ratio(|sample| sample.p99),
                    row.median(|sample| sample.resident),
                    Some(row.sum(|sample| sample.errors)),
                    row.median(|sample| Some(sample.others)),
                ];
                (row.name, figures)
            })
            .collect(),
    }
}

fn goals(setting: &Setting, rows: &[Row<'_, Sample>]) -> Vec<Goal> {
    let Some(ours) = rows.iter().find(|row| row.name == OURS) else {
        return Vec::new();
    };
    if setting.load.connections != 64 {
        return Vec::new();
    }
    let cpu = ours.ratio(|sample| sample.cpu);
    let p99 = ours.ratio(|sample| sample.p99);
    let goals = match setting.unit {
        Unit::Request => [
            Goal::at_most("CPU at most 1.0 × nginx, 1 KiB × 64".to_owned(), cpu, 1.0),
            Goal::at_most("p99 at most 1.0 × nginx, 1 KiB × 64".to_owned(), p99, 1.0),
        ],
        Unit::Mebibyte => [
            Goal::at_most("CPU at most 1.0 × nginx, 1 MiB × 64".to_owned(), cpu, 1.0),
            None,
        ],
    };
    goals.into_iter().flatten().collect()
}

const COLUMNS: [Column; 10] = [
    Column {
        heading: "CPU µs",
        key: "cpu_us",
        places: 1,
    },
    Column {
        heading: "×",
        key: "cpu_times_nginx",
        places: 2,
    },
    Column {
        heading: "requests/s",
        key: "requests_per_second",
        places: 0,
    },
    Column {
        heading: "×",
        key: "requests_per_second_times_nginx",
        places: 2,
    },
    Column {
        heading: "p50 ms",
        key: "p50_ms",
        places: 2,
    },
    Column {
        heading: "p99 ms",
        key: "p99_ms",
        places: 2,
    },
    Column {
        heading: "×",
        key: "p99_times_nginx",
        places: 2,
    },
    Column {
        heading: "RSS MiB",
        key: "resident_mib",
        places: 1,
    },
    Column {
        heading: "errors",
        key: "errors",
        places: 0,
    },
    Column {
        heading: "other CPU %",
        key: "others_percent",
        places: 0,
    },
];
