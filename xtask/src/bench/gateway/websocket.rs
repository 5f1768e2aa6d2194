//! What does a WebSocket message cost, there and back?
//!
//! Each connection has one message under way. The load sends on all of them and then waits for all: it is the same for
//! every proxy, and leaves it free to handle what has come at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Bench;
use super::client::WebSocket;
use super::proxies::{self, Programs, Target};
use super::report::{Column, Findings, Table};
use super::turns::{self, Row};
use super::usage::{cpu_time, wait_until_idle};
use super::{frame, origin};

struct Setting {
    name: &'static str,
    connections: usize,
    /// Octets of a message.
    length: usize,
}

const SETTINGS: [Setting; 2] = [
    Setting {
        name: "WebSocket echo of 125 B, 64 connections, CPU a message there and back",
        connections: 64,
        length: 125,
    },
    Setting {
        name: "WebSocket echo of 1 MiB, 8 connections, CPU a message there and back",
        connections: 8,
        length: 1 << 20,
    },
];

/// What one proxy did in its turn.
#[derive(Clone, Copy)]
struct Turn {
    /// CPU time in µs for a message; `None` without a proxy.
    cpu: Option<f64>,
    /// Messages a second.
    rate: f64,
}

pub(super) fn measure(bench: &Bench<'_>, programs: &Programs) -> anyhow::Result<Findings> {
    let targets = proxies::start_all(bench, programs, origin::serve()?)?;
    let turns = turns::take(
        bench,
        &targets,
        &SETTINGS,
        |setting| setting.name,
        |target, setting| turn(bench, target, setting),
    )?;
    let tables = SETTINGS.iter().zip(turns.rows());
    Ok(Findings {
        tables: tables
            .map(|(setting, rows)| table(setting, &rows))
            .collect(),
        goals: Vec::new(),
    })
}

fn turn(bench: &Bench<'_>, target: &Target, setting: &Setting) -> anyhow::Result<Turn> {
    // New ones each time: some proxies close those that are silent while others have their turns.
    let mut sockets = open(target.address, setting.connections)?;
    let id = target.id();
    let before = id.map(cpu_time).transpose()?;
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
    let after = id.map(cpu_time).transpose()?;
    drop(sockets);
    if let Some(id) = id {
        wait_until_idle(bench, id)?;
    }
    Ok(Turn {
        cpu: before
            .zip(after)
            .map(|(before, after)| after.saturating_sub(before).as_secs_f64() * 1e6 / messages),
        rate: messages / seconds,
    })
}

/// Opens WebSockets, one after the other.
pub(super) fn open(address: SocketAddr, count: usize) -> anyhow::Result<Vec<WebSocket>> {
    (0..count).map(|_| WebSocket::open(address)).collect()
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
                ];
                (row.name, figures)
            })
            .collect(),
    }
}

const COLUMNS: [Column; 4] = [
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
];
