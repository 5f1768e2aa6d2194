//! Measures the cost of a WebSocket message and its echo.
//!
//! Each connection has one message in flight. The load generator sends on all connections, then waits for all echoes.
//! This is the same for every proxy, and lets a proxy process messages in batches.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Bench;
use super::client::WebSocket;
use super::proxies::{self, OURS, Programs, Target};
use super::report::{Column, Goal, Report, Table};
use super::rounds::{self, Row};
use super::usage::Meter;
use super::{frame, origin};

struct Setting {
    name: &'static str,
    connections: usize,
    /// Bytes of a message.
    length: usize,
}

const SETTINGS: [Setting; 2] = [
    Setting {
        name: "WebSocket echo of 125 B, 64 connections, CPU per message and echo",
        connections: 64,
        length: 125,
    },
    Setting {
        name: "WebSocket echo of 1 MiB, 8 connections, CPU per message and echo",
        connections: 8,
        length: 1 << 20,
    },
];

/// Figures of one proxy in one round.
#[derive(Clone, Copy)]
struct Sample {
    /// CPU time in µs per message; `None` without a proxy.
    cpu: Option<f64>,
    /// Messages per second.
    rate: f64,
    /// Share of the core that other processes used, in percent.
    others: f64,
}

pub(super) fn measure(bench: &Bench<'_>, programs: &Programs) -> anyhow::Result<Report> {
    let targets = proxies::start_all(bench, programs, origin::serve()?, None)?;
    let rounds = rounds::measure(
        bench,
        &targets,
        &SETTINGS,
        |setting| setting.name,
        |target, setting| sample(bench, target, setting),
    )?;
    let mut report = Report::default();
    for (setting, rows) in SETTINGS.iter().zip(rounds.rows()) {
        let ours = rows.iter().find(|row| row.name == OURS);
        let cpu = ours.and_then(|row| row.ratio(|sample| sample.cpu));
        let goal = format!("CPU at most 1.0 × nginx: {}", setting.name);
        report.goals.extend(Goal::at_most(goal, cpu, 1.0));
        report.tables.push(table(setting, &rows));
    }
    Ok(report)
}

fn sample(bench: &Bench<'_>, target: &Target, setting: &Setting) -> anyhow::Result<Sample> {
    // Open new connections each time: some proxies close those that are idle while other proxies are measured.
    let mut sockets = open(target.address, setting.connections)?;
    let meter = Meter::start(bench, target.id())?;
    let started = Instant::now();
    let end = started + Duration::from_secs(bench.options.seconds.into());
    let mut frame = Vec::new();
    frame::write(frame::BINARY, &vec![b'a'; setting.length], true, &mut frame);
    let mut payload = Vec::new();
    let mut messages = 0.0;
    while Instant::now() < end {
        for socket in &mut sockets {
            socket.send(&frame)?;
        }
        for socket in &mut sockets {
            socket.receive(setting.length, &mut payload)?;
            messages += 1.0;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let spent = meter.stop(bench)?;
    Ok(Sample {
        cpu: spent.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / messages),
        rate: messages / seconds,
        others: spent.others,
    })
}

/// Opens WebSockets one after the other.
pub(super) fn open(address: SocketAddr, count: usize) -> anyhow::Result<Vec<WebSocket>> {
    (0..count).map(|_| WebSocket::open(address)).collect()
}

fn table(setting: &Setting, rows: &[Row<'_, Sample>]) -> Table {
    Table::new(setting.name, &COLUMNS, rows, |row| {
        vec![
            row.median(|sample| sample.cpu),
            row.ratio(|sample| sample.cpu),
            row.median(|sample| Some(sample.rate)),
            row.ratio(|sample| Some(sample.rate)),
            row.median(|sample| Some(sample.others)),
        ]
    })
}

const COLUMNS: [Column; 5] = [
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
        heading: "messages/s",
        key: "messages_per_second",
        places: 0,
    },
    Column {
        heading: "×",
        key: "messages_per_second_times_nginx",
        places: 2,
    },
    Column {
        heading: "other CPU %",
        key: "others_percent",
        places: 0,
    },
];
