//! What does the filter cost inside Envoy, beside other ways to do its job?
//!
//! One Envoy with one worker holds a listener for each variant; they differ in their HTTP filter and in nothing else. The
//! variants take turns in many short rounds, so that whatever else the machine does falls on all of them alike. Measured
//! is the CPU time of Envoy's threads, not latency: that is what a filter takes away from the other requests.
//!
//! The figures of two machines, or of two runs, are not comparable; the ratios within one run are. Nothing fails when a
//! target is missed.

mod exchange;
mod report;
mod variants;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::{Envoy, free_ports, wait_until};

use self::exchange::{ANSWER_LIMIT, ECHO, connect, read_answer, request, serve_upstream};
use self::variants::{Modules, VARIANTS};
use super::{local, pin_to, two_cores};
use crate::processes;
use crate::setup::{self, WASM};
use crate::steps::{cargo, root, run as command, step, target};

/// How much to measure, and how to tell it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Turns that each variant takes
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Requests to each variant in a round
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures the filter and prints a table.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let envoy = setup::python_packages()?.join("envoy");
    let modules = Modules {
        ours: setup::filter()?,
        empty: empty_filter()?,
    };
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder).context("cannot write under target/")?;

    let [envoy_core, load_core] = two_cores()?;
    pin_to(load_core)?;
    let upstream = serve_upstream()?;
    let ports = free_ports(VARIANTS.len())?;
    let addresses: Vec<SocketAddr> = ports.into_iter().map(local).collect();
    let bootstrap = variants::bootstrap(&modules, &addresses)?.forwarding_to(upstream);
    // A process inherits where the thread that starts it may run.
    pin_to(envoy_core)?;
    let envoy = step("starting Envoy", || {
        Ok(Envoy::start(
            &envoy,
            bootstrap,
            &folder,
            &["--concurrency", "1"],
        )?)
    })?;
    pin_to(load_core)?;

    check_that_the_job_is_done(&addresses)?;
    let rounds = measure(options, envoy.id(), &addresses)?;
    let rows = report::evaluate(&rounds)?;
    if options.json {
        println!("{:#}", report::as_json(options, &rows));
    } else {
        println!("{}", report::as_table(&rows));
    }
    Ok(())
}

fn empty_filter() -> anyhow::Result<PathBuf> {
    step("building the empty filter", || {
        command(
            cargo()
                .args(["build", "--quiet", "--release", "--locked"])
                .args(["--target", WASM, "--manifest-path"])
                .arg(root().join("envoy/bench/empty-filter/Cargo.toml"))
                .arg("--target-dir")
                .arg(target()),
        )
    })?;
    Ok(target().join(WASM).join("release/empty_filter.wasm"))
}

/// A comparison means something only if both sides do the same: what reaches the upstream and the client must not differ.
fn check_that_the_job_is_done(addresses: &[SocketAddr]) -> anyhow::Result<()> {
    let mut expected: Option<(&str, Vec<String>)> = None;
    for (variant, address) in VARIANTS.iter().zip(addresses) {
        let mut connection = connect(*address)?;
        let mut answer = Vec::new();
        connection.write_all(request(ECHO).as_bytes())?;
        read_answer(&mut connection, &mut answer).with_context(|| variant.name)?;
        if !variant.does_the_job {
            continue;
        }
        let seen = lines(&answer);
        match &expected {
            None => expected = Some((variant.name, seen)),
            Some((other, expected)) => ensure!(
                seen == *expected,
                "`{}` and `{other}` do not do the same.\n{}\n\nand\n\n{}",
                variant.name,
                seen.join("\n"),
                expected.join("\n")
            ),
        }
    }
    Ok(())
}

/// The lines of an answer that carries the upstream's request, without order and without what differs each time.
fn lines(answer: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answer);
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.is_empty())
        .filter(|line| !NOT_COMPARED.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    lines.sort_unstable();
    lines
}

/// Nanoseconds of CPU a request, for each round and in it for each variant.
fn measure(
    options: &Options,
    envoy: u32,
    addresses: &[SocketAddr],
) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut connections = Vec::new();
    for address in addresses {
        let of_variant: anyhow::Result<Vec<TcpStream>> =
            (0..CONNECTIONS).map(|_| connect(*address)).collect();
        connections.push(of_variant?);
    }
    eprintln!("warming up …");
    for (variant, connections) in VARIANTS.iter().zip(&mut connections) {
        load(connections, options.requests).with_context(|| variant.name)?;
    }
    let mut rounds = Vec::new();
    for round in 0..usize::try_from(options.rounds)? {
        eprintln!("round {} of {} …", round + 1, options.rounds);
        let mut costs = vec![0.0; VARIANTS.len()];
        for turn in 0..VARIANTS.len() {
            let index = (turn + round) % VARIANTS.len();
            let before = cpu_time(envoy)?;
            load(&mut connections[index], options.requests)
                .with_context(|| VARIANTS[index].name)?;
            let spent = cpu_time(envoy)?.saturating_sub(before);
            costs[index] = spent.as_secs_f64() * 1e6 / f64::from(options.requests);
        }
        rounds.push(costs);
    }
    Ok(rounds)
}

/// Sends at least so many requests, one on each connection at a time.
fn load(connections: &mut [TcpStream], requests: u32) -> anyhow::Result<()> {
    let request = request("");
    let mut answer = Vec::new();
    let mut left = requests as usize;
    while left > 0 {
        let batch = left.min(connections.len());
        let connections = &mut connections[..batch];
        for connection in &mut *connections {
            connection.write_all(request.as_bytes())?;
        }
        for connection in connections {
            read_answer(connection, &mut answer)?;
        }
        left -= batch;
    }
    Ok(())
}

/// The CPU time of all threads of an idle process.
fn cpu_time(id: u32) -> anyhow::Result<Duration> {
    // The kernel adds a thread's time up when it stops running.
    let mut tasks = Ok(Vec::new());
    let is_idle = wait_until(ANSWER_LIMIT, || {
        tasks = processes::tasks(id);
        tasks
            .as_ref()
            .is_ok_and(|tasks| tasks.iter().all(|task| !task.is_running))
            || tasks.is_err()
    });
    let tasks = tasks?;
    ensure!(is_idle, "Envoy does not come to rest");
    Ok(tasks.iter().map(|task| task.spent).sum())
}

/// Connections to each listener.
const CONNECTIONS: usize = 16;

/// Lines of an echoed exchange that differ each time, and what a route adds that takes the mount off.
const NOT_COMPARED: [&str; 5] = [
    "content-length:",
    "date:",
    "x-envoy-original-path:",
    "x-envoy-upstream-service-time:",
    "x-request-id:",
];
