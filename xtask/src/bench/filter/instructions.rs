//! Counts the instructions that Envoy executes for a request, under callgrind.
//!
//! Unlike CPU time, they are nearly the same on a busy machine. They leave out what memory and the kernel cost: a thousand of
//! them take about 0.08 µs here. Callgrind cannot run many wasm filters at a time, so each variant has an Envoy of its own.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_support::port::free_port;
use fluxlit_support::wait::wait_until;

use super::exchange::{RESPONSE_LIMIT, Workload, connect};
use super::send;
use super::variants::{self, Variant};
use crate::bench::callgrind::Callgrind;
use crate::bench::local;

/// The workloads whose instructions are counted, in the order of the figures.
pub(super) const WORKLOADS: [Workload; 2] = [Workload::Direct, Workload::Request];

/// Returns thousands of instructions of the worker for one request: for each workload, several series of it.
pub(super) fn count(
    envoy: &Path,
    folder: &Path,
    variant: &Variant,
    upstream: SocketAddr,
) -> anyhow::Result<[Vec<f64>; WORKLOADS.len()]> {
    let folder = folder.join("instructions").join(variant.file_name());
    // Files of an earlier run would be taken for those of this one.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).context("cannot write under target/")?;
    let address = local(free_port()?);
    let bootstrap = variants::bootstrap(&[variant], &[address])?
        .forwarding_to(upstream)
        .administered_on(local(0));
    std::fs::write(folder.join(BOOTSTRAP), bootstrap.to_json())
        .context("cannot write under target/")?;
    let mut command = Command::new(envoy);
    command
        .args(["--config-path", BOOTSTRAP, "--concurrency", "1"])
        .args(["--disable-hot-restart", "--log-level", "warning"]);
    let mut callgrind = Callgrind::start(&command, &folder)?;
    let mut ended = Ok(());
    let is_served = wait_until(START_LIMIT, || {
        ended = callgrind.check();
        ended.is_err() || connect(address).is_ok_and(is_answered)
    });
    ended?;
    ensure!(is_served, "Envoy does not start; see {}", folder.display());
    let mut figures = [const { Vec::new() }; WORKLOADS.len()];
    for (workload, figures) in WORKLOADS.into_iter().zip(&mut figures) {
        let bytes = workload.bytes();
        let mut connections = vec![workload.connect(address)?];
        let mut load = |repetitions| {
            send(workload, &bytes, &mut connections, repetitions).context(workload.name())
        };
        load(WARM_UP)?;
        callgrind.zero()?;
        for _ in 0..SERIES {
            load(REQUESTS)?;
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let instructions = callgrind.take()?.instructions as f64;
            figures.push(instructions / f64::from(REQUESTS) / 1000.0);
        }
    }
    Ok(figures)
}

fn is_answered(mut connection: TcpStream) -> bool {
    let workload = Workload::Direct;
    let limit = connection.set_read_timeout(Some(RESPONSE_LIMIT));
    limit.is_ok()
        && send(
            workload,
            &workload.bytes(),
            std::slice::from_mut(&mut connection),
            1,
        )
        .is_ok()
}

/// Requests before the first series, so that V8 has compiled the filter and connections exist.
const WARM_UP: u32 = 300;

/// Number of series.
const SERIES: u32 = 3;

/// Number of requests in each series.
const REQUESTS: u32 = 400;

/// How long Envoy may take to start; callgrind makes it slow.
const START_LIMIT: Duration = Duration::from_mins(5);

const BOOTSTRAP: &str = "envoy.json";
