//! Measures the cost of the filter inside Envoy, compared with other ways to do its job.
//!
//! One Envoy with one worker has a listener for each variant; they differ in their HTTP filter only. The variants take
//! turns in many short rounds, so that any other load on the machine affects all of them alike. The measure is the CPU
//! time of Envoy's threads, not latency: that is what a filter takes away from other requests. On a machine with other load,
//! `--instructions` counts instead.
//!
//! Figures of two machines, or of two runs, are not comparable; the ratios within one run are. So another build of the
//! filter is measured in the same run (`--module`). A missed target is not a failure.

mod exchange;
mod instructions;
mod report;
mod variants;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_support::port::free_ports;
use fluxlit_support::wait::wait_until;

use self::exchange::{
    ECHO, RESPONSE_LIMIT, STREAM, Workload, connect, read_response, request, serve_upstream,
};
use self::report::{Table, Unit};
use self::variants::{Modules, NamedModule, Variant};
use super::{callgrind, local, pin_to, two_cores};
use crate::processes;
use crate::setup::{self, WASM};
use crate::steps::{cargo, root, run as command, step, target};

/// What to measure, and in which form to print it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds, in each of which every variant takes a turn
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Requests to each variant in a round; also WebSocket frames, and bodies by a twentieth
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Measure another build of the filter in the same run: its name in the tables, and its wasm file; may be repeated
    #[arg(long = "module", value_name = "NAME=PATH")]
    modules: Vec<NamedModule>,
    /// Count instructions under callgrind instead of measuring time: nearly the same on a busy machine, but slow
    #[arg(long, conflicts_with_all = ["rounds", "requests"])]
    instructions: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures the filter and prints a table for each workload.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let variants = variants::variants(&Modules {
        ours: setup::filter()?,
        native: setup::module()?,
        empty: empty_filter()?,
        others: options.modules.clone(),
    })?;
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder).context("cannot write under target/")?;
    let tables = if options.instructions {
        count(&folder, &variants)?
    } else {
        measure_all(options, &folder, &variants)?
    };
    if options.json {
        println!("{:#}", report::as_json(&tables));
    } else {
        for table in &tables {
            println!("{}", report::as_text(table));
        }
    }
    Ok(())
}

/// Measures the CPU time of all variants in one Envoy.
fn measure_all<'a>(
    options: &Options,
    folder: &Path,
    variants: &'a [Variant],
) -> anyhow::Result<Vec<Table<'a>>> {
    let envoy = setup::python_packages()?.join("envoy");
    let [envoy_core, load_core] = two_cores()?;
    pin_to(load_core)?;
    let upstream = serve_upstream()?;
    let ports = free_ports(variants.len())?;
    let addresses: Vec<SocketAddr> = ports.into_iter().map(local).collect();
    let variants: Vec<&Variant> = variants.iter().collect();
    let bootstrap = variants::bootstrap(&variants, &addresses)?.forwarding_to(upstream);
    // A process inherits the cores of the thread that starts it.
    pin_to(envoy_core)?;
    let envoy = step("starting Envoy", || {
        Ok(bootstrap.start(&envoy, folder, &["--concurrency", "1"])?)
    })?;
    pin_to(load_core)?;

    let variants: Vec<(&Variant, SocketAddr)> = variants.into_iter().zip(addresses).collect();
    check_that_the_job_is_done(&variants)?;
    let mut tables = Vec::new();
    for workload in Workload::ALL {
        let mut variants = variants.clone();
        if !matches!(workload, Workload::Direct | Workload::Request) {
            variants.retain(|(variant, _)| variant.has_streams);
        }
        let rounds = measure(options, workload, envoy.id(), &variants)?;
        let variants: Vec<&Variant> = variants.into_iter().map(|(variant, _)| variant).collect();
        tables.push(report::evaluate(
            Unit::CpuTime,
            workload,
            &variants,
            &rounds,
        )?);
    }
    Ok(tables)
}

/// Counts the instructions of all variants, each in an Envoy of its own.
fn count<'a>(folder: &Path, variants: &'a [Variant]) -> anyhow::Result<Vec<Table<'a>>> {
    if let Some(obstacle) = callgrind::obstacle() {
        anyhow::bail!(obstacle);
    }
    let envoy = setup::envoy_executable()?;
    let upstream = serve_upstream()?;
    let counted = variants
        .iter()
        .map(|variant| {
            step(&format!("counting `{}`", variant.name), || {
                instructions::count(&envoy, folder, variant, upstream)
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let variants: Vec<&Variant> = variants.iter().collect();
    let tables = instructions::WORKLOADS.into_iter().enumerate();
    tables
        .map(|(index, workload)| {
            let series = counted.first().map_or(0, |first| first[index].len());
            let rounds: Vec<Vec<f64>> = (0..series)
                .map(|round| {
                    counted
                        .iter()
                        .map(|figures| figures[index][round])
                        .collect()
                })
                .collect();
            report::evaluate(Unit::Instructions, workload, &variants, &rounds)
        })
        .collect()
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

/// Fails if the variants that do the job differ in what reaches the upstream and the client: they would not be comparable.
fn check_that_the_job_is_done(variants: &[(&Variant, SocketAddr)]) -> anyhow::Result<()> {
    let mut expected: Option<(&str, Vec<String>)> = None;
    for (variant, address) in variants {
        let mut connection = connect(*address)?;
        let mut response = Vec::new();
        connection.write_all(request("GET", STREAM, ECHO).as_bytes())?;
        read_response(&mut connection, &mut response).with_context(|| variant.name.clone())?;
        if !variant.does_the_job {
            continue;
        }
        let seen = lines(&response);
        match &expected {
            None => expected = Some((&variant.name, seen)),
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

/// Returns the lines of a response that carries the upstream's request, sorted, without those that always differ.
fn lines(response: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(response);
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.is_empty())
        .filter(|line| !NOT_COMPARED.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    lines.sort_unstable();
    lines
}

/// Returns the microseconds of CPU time that the workload takes once, for each round and in it for each variant.
fn measure(
    options: &Options,
    workload: Workload,
    envoy: u32,
    variants: &[(&Variant, SocketAddr)],
) -> anyhow::Result<Vec<Vec<f64>>> {
    let repetitions = workload.repetitions(options.requests);
    let bytes = workload.bytes();
    let mut connections = Vec::new();
    for (variant, address) in variants {
        let of_variant: anyhow::Result<Vec<TcpStream>> = (0..CONNECTIONS)
            .map(|_| workload.connect(*address))
            .collect();
        connections.push(of_variant.with_context(|| variant.name.clone())?);
    }
    let mut load = |index: usize| {
        send(workload, &bytes, &mut connections[index], repetitions)
            .with_context(|| variants[index].0.name.clone())
    };
    eprintln!("{}: warming up …", workload.name());
    for index in 0..variants.len() {
        load(index)?;
    }
    let mut rounds = Vec::new();
    for round in 0..usize::try_from(options.rounds)? {
        eprintln!(
            "{}: round {} of {} …",
            workload.name(),
            round + 1,
            options.rounds
        );
        let mut costs = vec![0.0; variants.len()];
        for turn in 0..variants.len() {
            let index = (turn + round) % variants.len();
            let before = cpu_time(envoy)?;
            load(index)?;
            let spent = cpu_time(envoy)?.saturating_sub(before);
            costs[index] = spent.as_secs_f64() * 1e6 / f64::from(repetitions);
        }
        rounds.push(costs);
    }
    Ok(rounds)
}

/// Repeats a workload, with one repetition at a time on each connection.
fn send(
    workload: Workload,
    bytes: &[u8],
    connections: &mut [TcpStream],
    repetitions: u32,
) -> anyhow::Result<()> {
    let mut response = Vec::new();
    let mut left = repetitions as usize;
    while left > 0 {
        let batch = left.min(connections.len());
        let connections = &mut connections[..batch];
        for connection in &mut *connections {
            connection.write_all(bytes)?;
        }
        for connection in connections {
            workload.read(connection, &mut response)?;
        }
        left -= batch;
    }
    Ok(())
}

/// Waits until a process is idle, and returns the CPU time of all its threads.
fn cpu_time(id: u32) -> anyhow::Result<Duration> {
    // The kernel updates a thread's time when it stops running.
    let mut tasks = Ok(Vec::new());
    let is_idle = wait_until(RESPONSE_LIMIT, || {
        tasks = processes::tasks(id);
        tasks
            .as_ref()
            .is_ok_and(|tasks| tasks.iter().all(|task| !task.is_running))
            || tasks.is_err()
    });
    let tasks = tasks?;
    ensure!(is_idle, "Envoy does not become idle");
    Ok(tasks.iter().map(|task| task.spent).sum())
}

/// Connections to each listener.
const CONNECTIONS: usize = 16;

/// Lines of an echoed exchange that differ each time, and the field that a prefix-stripping route adds.
const NOT_COMPARED: [&str; 5] = [
    "content-length:",
    "date:",
    "x-envoy-original-path:",
    "x-envoy-upstream-service-time:",
    "x-request-id:",
];
