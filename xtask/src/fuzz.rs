//! Builds and runs the fuzz targets with the stable compiler and without further tools.
//!
//! The targets are in `fuzz/`, in the layout of cargo-fuzz. They are built with the coverage instrumentation that
//! libFuzzer needs, which the stable compiler supports. It lacks the sanitizers, but no target has unsafe code.
//! `fuzz/rustc.sh` disables the instrumentation for wasmtime.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, anyhow, bail, ensure};

use crate::setup;
use crate::steps::{cargo, root, run as command, step, target};

/// All targets.
pub(crate) const TARGETS: [&str; 12] = [
    "chunked",
    "configuration",
    "filter",
    "forwarded",
    "frames",
    "http1_request",
    "http1_response",
    "http2",
    "imports",
    "probe",
    "response",
    "target",
];

/// Runs the named targets, or all, each for this many seconds, and as many in parallel as there are cores.
pub(crate) fn run(names: &[String], seconds: u64) -> anyhow::Result<()> {
    for name in names {
        ensure!(
            TARGETS.contains(&name.as_str()),
            "unknown target `{name}`; expected one of: {}",
            TARGETS.join(", ")
        );
    }
    let module = setup::filter()?;
    let programs = build()?;
    let chosen: Vec<&str> = TARGETS
        .into_iter()
        .filter(|name| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let run_next = || -> anyhow::Result<()> {
        while let Some(name) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            step(&format!("fuzzing {name} for {seconds} s"), || {
                run_target(&programs, name, seconds, &module)
            })?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores.min(chosen.len()))
            .map(|_| scope.spawn(run_next))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| anyhow!("a fuzzing thread panicked"))?
        })
    })
}

/// Builds all targets; returns their folder.
fn build() -> anyhow::Result<PathBuf> {
    let host = host_triple()?;
    let folder = target().join("fuzz");
    step("building the fuzz targets", || {
        command(
            cargo()
                .args([
                    "build",
                    "--quiet",
                    "--locked",
                    "--release",
                    "--bins",
                    "--manifest-path",
                ])
                .arg(root().join("fuzz/Cargo.toml"))
                .args(["--target", &host, "--target-dir"])
                .arg(&folder)
                .env("RUSTC_WRAPPER", root().join("fuzz/rustc.sh"))
                .env("FLUXLIT_FUZZ_FLAGS", INSTRUMENTATION.join(" ")),
        )
    })?;
    Ok(folder.join(host).join("release"))
}

fn run_target(
    programs: &std::path::Path,
    name: &str,
    seconds: u64,
    module: &std::path::Path,
) -> anyhow::Result<()> {
    // The corpus of one run is the start of the next.
    let corpus = target().join("fuzz/corpus").join(name);
    let findings = target().join("fuzz/findings").join(name);
    for folder in [&corpus, &findings] {
        std::fs::create_dir_all(folder)?;
    }
    let log = target().join(format!("fuzz/{name}.log"));
    let status = Command::new(programs.join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=4096"])
        .arg(&corpus)
        .arg(root().join("fuzz/seeds").join(name))
        .env("FLUXLIT_TEST_FILTER", module)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .status()
        .with_context(|| format!("cannot run the target {name}"))?;
    let output = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    if !status.success() {
        let lines: Vec<&str> = output.lines().collect();
        bail!(
            "{name} failed; the input is in {}\n{}",
            findings.display(),
            lines[lines.len().saturating_sub(20)..].join("\n")
        );
    }
    let figure = |name: &str| {
        output
            .lines()
            .find_map(|line| line.strip_prefix(&format!("stat::{name}:")))
            .unwrap_or("?")
            .trim()
            .to_owned()
    };
    eprintln!(
        "  {name}: {} inputs, {} per second, no failure",
        figure("number_of_executed_units"),
        figure("average_exec_per_sec")
    );
    Ok(())
}

/// Returns the target triple of this machine.
pub(crate) fn host_triple() -> anyhow::Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .current_dir(root())
        .output()
        .context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc prints no host")
}

/// The flags that cargo-fuzz passes.
const INSTRUMENTATION: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "--cfg=fuzzing",
];
