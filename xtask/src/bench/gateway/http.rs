//! What does an HTTP request cost?
//!
//! Small and large answers, with few and many connections. CPU time is divided by requests where the answer is small, and
//! by bytes where it is large: then requests that are not finished when the time is up count, too.

use anyhow::Context;

use super::files::{Files, LARGE, SMALL};
use super::proxies::{self, OURS, Programs, Target};
use super::report::{Column, Findings, Goal, Table};
use super::turns::{self, Row};
use super::usage::{cpu_time, resident, wait_until_idle};
use super::wrk::{self, Load};
use super::{Bench, mebibytes};

/// A load, and what its CPU time is divided by.
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
    small("GET 1 KiB, 1 connection, CPU a request", 1),
    small("GET 1 KiB, 64 connections, CPU a request", 64),
    small("GET 1 KiB, 512 connections, CPU a request", 512),
    large("GET 1 MiB, 1 connection, CPU a MiB", 1),
    large("GET 1 MiB, 64 connections, CPU a MiB", 64),
    large("GET 1 MiB, 512 connections, CPU a MiB", 512),
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

/// What one proxy did in its turn.
#[derive(Clone, Copy)]
struct Turn {
    /// CPU time in µs for each unit; `None` without a proxy.
    cpu: Option<f64>,
    rate: f64,
    p50: Option<f64>,
    p99: Option<f64>,
    /// Most resident memory that was seen, in MiB, with what is left from earlier turns; `None` without a proxy.
    resident: Option<f64>,
    errors: f64,
}

pub(super) fn measure(bench: &Bench<'_>, programs: &Programs) -> anyhow::Result<Findings> {
    let files = Files::serve(bench, programs)?;
    let targets = proxies::start_all(bench, programs, files.address)?;
    let turns = turns::take(
        bench,
        &targets,
        &SETTINGS,
        |setting| setting.name,
        |target, setting| turn(bench, programs, target, setting),
    )?;
    let mut findings = Findings::default();
    for (setting, rows) in SETTINGS.iter().zip(turns.rows()) {
        findings.goals.extend(goals(setting, &rows));
        findings.tables.push(table(setting, &rows));
    }
    Ok(findings)
}

fn turn(
    bench: &Bench<'_>,
    programs: &Programs,
    target: &Target,
    setting: &Setting,
) -> anyhow::Result<Turn> {
    let id = target.id();
    let before = id.map(cpu_time).transpose()?;
    let mut most = None;
    let outcome = wrk::run(bench, programs, target.address, &setting.load, || {
        most = most.max(id.map(resident).transpose()?);
        Ok(())
    })
    .context("wrk")?;
    let after = id.map(cpu_time).transpose()?;
    if let Some(id) = id {
        wait_until_idle(bench, id)?;
    }
    let units = match setting.unit {
        Unit::Mebibyte => outcome.bytes / f64::from(1 << 20),
        Unit::Request => outcome.requests,
    };
    let answered = outcome.requests > 0.0;
    Ok(Turn {
        cpu: before
            .zip(after)
            .filter(|_| units > 0.0)
            .map(|(before, after)| after.saturating_sub(before).as_secs_f64() * 1e6 / units),
        rate: outcome.requests / outcome.seconds,
        p50: answered.then_some(outcome.p50_ms),
        p99: answered.then_some(outcome.p99_ms),
        resident: most.map(mebibytes),
        errors: outcome.errors,
    })
}

fn table(setting: &Setting, rows: &[Row<'_, Turn>]) -> Table {
    Table {
        title: setting.name.to_owned(),
        columns: &COLUMNS,
        rows: rows
            .iter()
            .map(|row| {
                let figures = vec![
                    row.median(|turn| turn.cpu),
                    row.ratio(|turn| turn.cpu),
                    row.median(|turn| Some(turn.rate)),
                    row.ratio(|turn| Some(turn.rate)),
                    row.median(|turn| turn.p50),
                    row.median(|turn| turn.p99),
                    row.ratio(|turn| turn.p99),
                    row.median(|turn| turn.resident),
                    Some(row.sum(|turn| turn.errors)),
                ];
                (row.name, figures)
            })
            .collect(),
    }
}

fn goals(setting: &Setting, rows: &[Row<'_, Turn>]) -> Vec<Goal> {
    let Some(ours) = rows.iter().find(|row| row.name == OURS) else {
        return Vec::new();
    };
    if setting.load.connections != 64 {
        return Vec::new();
    }
    let cpu = ours.ratio(|turn| turn.cpu);
    let p99 = ours.ratio(|turn| turn.p99);
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

const COLUMNS: [Column; 9] = [
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
];
