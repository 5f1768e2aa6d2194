//! Measures the memory of the gateway, compared with nginx.
//!
//! Each figure is from a process that was started for it, because allocators keep memory that they no longer use.
//! Kernel memory of sockets is not included.

use std::time::Duration;

use fluxlit_support::wait::wait_until;

use super::file_server::{FileServer, LARGE, SMALL};
use super::proxies::{ALL, MAX_CONNECTIONS, NGINX, OURS, Programs, Proxy, Target, start};
use super::report::{Column, Goal, Report, Table};
use super::usage::{peak, resident};
use super::wrk::{self, Load};
use super::{Bench, client, mebibytes, origin, websocket};

/// Memory of one proxy, in MiB unless stated otherwise.
struct Memory {
    at_rest: f64,
    small: f64,
    large: f64,
    download: f64,
    upload: f64,
    /// KiB per idle WebSocket.
    idle: f64,
}

pub(super) fn measure(bench: &Bench<'_>, programs: &Programs) -> anyhow::Result<Report> {
    let mut rows = Vec::new();
    for proxy in &ALL {
        if [NGINX, OURS].contains(&proxy.name) && bench.options.wants(proxy.name) {
            rows.push((proxy.name, of(bench, programs, proxy)?));
        }
    }
    let find = |name| rows.iter().find(|row| row.0 == name).map(|row| &row.1);
    let mut goals = Vec::new();
    if let (Some(ours), Some(nginx)) = (find(OURS), find(NGINX)) {
        let ratios = ours.figures().into_iter().zip(nginx.figures());
        for (column, (ours, nginx)) in COLUMNS.iter().zip(ratios) {
            let ratio = ours.zip(nginx).map(|(ours, nginx)| ours / nginx);
            let goal = format!("memory at most 1.0 × nginx: {}", column.heading);
            goals.extend(Goal::at_most(goal, ratio, 1.0));
        }
    }
    Ok(Report {
        tables: vec![Table {
            title: format!("Resident memory in MiB; per idle WebSocket in KiB, with {IDLE} open"),
            columns: &COLUMNS,
            rows: rows
                .iter()
                .map(|(name, memory)| (*name, memory.figures()))
                .collect(),
        }],
        goals,
    })
}

impl Memory {
    fn figures(&self) -> Vec<Option<f64>> {
        let Self {
            at_rest,
            small,
            large,
            download,
            upload,
            idle,
        } = self;
        [at_rest, small, large, download, upload, idle]
            .map(|figure| Some(*figure))
            .to_vec()
    }
}

fn of(bench: &Bench<'_>, programs: &Programs, proxy: &Proxy) -> anyhow::Result<Memory> {
    let progress = |step: &str| eprintln!("memory of {}: {step} …", proxy.name);
    let files = FileServer::serve(bench, programs)?;
    let loaded = |file| -> anyhow::Result<f64> {
        let target = start(bench, programs, proxy, files.address, MAX_CONNECTIONS, None)?;
        let load = Load {
            file,
            connections: 64,
        };
        let mut largest = 0;
        let seconds = bench.options.seconds;
        wrk::run(bench, programs, target.address, &load, seconds, || {
            largest = largest.max(of_target(&target, resident)?);
            Ok(())
        })?;
        Ok(mebibytes(largest))
    };
    progress("64 connections");
    let (small, large) = (loaded(SMALL)?, loaded(LARGE)?);

    let origin = origin::serve()?;
    progress("download of 2 GiB");
    let target = start(bench, programs, proxy, origin, MAX_CONNECTIONS, None)?;
    let at_rest = mebibytes(settled(&target)?);
    client::download(target.address)?;
    let download = mebibytes(of_target(&target, peak)?);
    drop(target);
    progress("upload of 2 GiB");
    let target = start(bench, programs, proxy, origin, MAX_CONNECTIONS, None)?;
    client::upload(target.address)?;
    let upload = mebibytes(of_target(&target, peak)?);
    drop(target);

    progress("idle WebSockets");
    let target = start(bench, programs, proxy, origin, 2 * IDLE + 100, None)?;
    let before = of_target(&target, resident)?;
    let sockets = websocket::open(target.address, IDLE)?;
    let after = settled(&target)?;
    drop(sockets);
    Ok(Memory {
        at_rest,
        small,
        large,
        download,
        upload,
        idle: mebibytes(after.saturating_sub(before)) * 1024.0 / IDLE as f64,
    })
}

/// Waits until resident memory no longer changes, and returns it.
fn settled(target: &Target) -> anyhow::Result<u64> {
    let mut last = of_target(target, resident);
    wait_until(Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(500));
        let now = of_target(target, resident);
        let is_settled = matches!((&last, &now), (Ok(last), Ok(now)) if last == now);
        last = now;
        is_settled || last.is_err()
    });
    last
}

fn of_target(target: &Target, figure: fn(u32) -> anyhow::Result<u64>) -> anyhow::Result<u64> {
    target.id().map_or(Ok(0), figure)
}

/// Number of WebSockets that are open at the same time.
pub(super) const IDLE: usize = 5000;

const COLUMNS: [Column; 6] = [
    Column {
        heading: "idle",
        key: "at_rest_mib",
        places: 1,
    },
    Column {
        heading: "1 KiB × 64",
        key: "get_1_kib_64_mib",
        places: 1,
    },
    Column {
        heading: "1 MiB × 64",
        key: "get_1_mib_64_mib",
        places: 1,
    },
    Column {
        heading: "peak, 2 GiB down",
        key: "download_peak_mib",
        places: 1,
    },
    Column {
        heading: "peak, 2 GiB up",
        key: "upload_peak_mib",
        places: 1,
    },
    Column {
        heading: "idle WebSocket",
        key: "idle_websocket_kib",
        places: 1,
    },
];
