//! Measures the cost of HTTP requests.
//!
//! Responses are small or large, connections few or many, with TLS or without it. For small responses, CPU time is divided by the number of
//! requests; for large ones by bytes, so that requests that are unfinished when the time is up count as well.

use anyhow::Context;
use fluxlit_support::certificate::Certificate;

use super::file_server::{FileServer, LARGE, SMALL};
use super::proxies::{self, OURS, Programs, Target};
use super::report::{Column, Goal, Report, Table};
use super::rounds::{self, Row};
use super::usage::{Meter, resident};
use super::{Bench, h2load, mebibytes, wrk};

/// A load, and the unit that its CPU time is divided by.
struct Setting {
    name: &'static str,
    load: Load,
    unit: Unit,
    /// The maximum of the ratio of CPU times to nginx, as a goal.
    max_cpu: f64,
}

enum Load {
    Plain(wrk::Load),
    Tls(h2load::Load),
}

#[derive(Clone, Copy)]
enum Unit {
    Mebibyte,
    Request,
}

const PLAIN: [Setting; 6] = [
    small("GET 1 KiB, 1 connection, CPU per request", 1, 1.0),
    small("GET 1 KiB, 64 connections, CPU per request", 64, 0.9),
    small("GET 1 KiB, 512 connections, CPU per request", 512, 1.0),
    large("GET 1 MiB, 1 connection, CPU per MiB", 1),
    large("GET 1 MiB, 64 connections, CPU per MiB", 64),
    large("GET 1 MiB, 512 connections, CPU per MiB", 512),
];

const TLS: [Setting; 4] = [
    encrypted(
        "GET 1 KiB, TLS, 64 connections, CPU per request",
        (SMALL, Unit::Request),
        64,
        None,
    ),
    encrypted(
        "GET 1 KiB, TLS and HTTP/2, 64 connections, CPU per request",
        (SMALL, Unit::Request),
        64,
        Some(1),
    ),
    encrypted(
        "GET 1 KiB, TLS and HTTP/2, 8 connections with 16 streams each, CPU per request",
        (SMALL, Unit::Request),
        8,
        Some(16),
    ),
    encrypted(
        "GET 1 MiB, TLS and HTTP/2, 8 connections, CPU per MiB",
        (LARGE, Unit::Mebibyte),
        8,
        Some(1),
    ),
];

const fn small(name: &'static str, connections: u32, max_cpu: f64) -> Setting {
    Setting {
        name,
        load: Load::Plain(wrk::Load {
            file: SMALL,
            connections,
        }),
        unit: Unit::Request,
        max_cpu,
    }
}

const fn large(name: &'static str, connections: u32) -> Setting {
    Setting {
        name,
        load: Load::Plain(wrk::Load {
            file: LARGE,
            connections,
        }),
        unit: Unit::Mebibyte,
        max_cpu: 1.0,
    }
}

/// `streams`: the number of streams for HTTP/2, `None` for HTTP/1.1.
const fn encrypted(
    name: &'static str,
    (file, unit): (&'static str, Unit),
    connections: u32,
    streams: Option<u32>,
) -> Setting {
    Setting {
        name,
        unit,
        load: Load::Tls(h2load::Load {
            file,
            connections,
            requests: match unit {
                Unit::Mebibyte => 500,
                Unit::Request => 25_000,
            },
            streams,
        }),
        max_cpu: 1.0,
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

/// Measures without TLS.
pub(super) fn measure(bench: &Bench<'_>, programs: &Programs) -> anyhow::Result<Report> {
    let files = FileServer::serve(bench, programs)?;
    let targets = proxies::start_all(bench, programs, files.address, None)?;
    measure_all(bench, programs, &targets, &PLAIN)
}

/// Measures with TLS, and HTTP/2.
pub(super) fn measure_tls(bench: &Bench<'_>, programs: &Programs) -> anyhow::Result<Report> {
    let files = FileServer::serve(bench, programs)?;
    let certificate = Certificate::create_files(&bench.folder, &["localhost", "127.0.0.1"])?;
    let targets = proxies::start_all(bench, programs, files.address, Some(&certificate))?;
    measure_all(bench, programs, &targets, &TLS)
}

fn measure_all(
    bench: &Bench<'_>,
    programs: &Programs,
    targets: &[Target],
    settings: &[Setting],
) -> anyhow::Result<Report> {
    let rounds = rounds::measure(
        bench,
        targets,
        settings,
        |setting| setting.name,
        |target, setting| sample(bench, programs, target, setting),
    )?;
    let mut report = Report::default();
    for (setting, rows) in settings.iter().zip(rounds.rows()) {
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
    let mut largest = None;
    let mut load_for = |seconds| {
        let meanwhile = || {
            largest = largest.max(id.map(resident).transpose()?);
            Ok(())
        };
        let address = target.address;
        match &setting.load {
            Load::Plain(load) => {
                wrk::run(bench, programs, address, load, seconds, meanwhile).context("wrk")
            }
            Load::Tls(load) => {
                h2load::run(bench, programs, address, load, seconds, meanwhile).context("h2load")
            }
        }
    };
    load_for(WARM_UP)?;
    let meter = Meter::start(bench, id)?;
    let outcome = load_for(bench.options.seconds)?;
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
    Table::new(setting.name, &COLUMNS, rows, |row| {
        vec![
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
        ]
    })
}

fn goals(setting: &Setting, rows: &[Row<'_, Sample>]) -> Vec<Goal> {
    let Some(ours) = rows.iter().find(|row| row.name == OURS) else {
        return Vec::new();
    };
    let Setting { name, max_cpu, .. } = setting;
    let cpu = ours.ratio(|sample| sample.cpu);
    let p99 = ours.ratio(|sample| sample.p99);
    let goals = [
        Goal::at_most(
            format!("CPU at most {max_cpu} × nginx: {name}"),
            cpu,
            *max_cpu,
        ),
        Goal::at_most(format!("p99 at most 1.0 × nginx: {name}"), p99, 1.0),
    ];
    goals.into_iter().flatten().collect()
}

/// Seconds of load before the measurement begins. While one proxy is measured, the others close idle connections to the origin, each
/// after a time of its own. Those that open them again during the measurement would have the higher latencies.
const WARM_UP: u32 = 1;

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
