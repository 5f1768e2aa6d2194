//! Records how often each part of the gateway runs, by which the compiler optimizes the executables of a release.
//!
//! A profile is a file of the repository, so that a release can be built again with the same bytes. It counts branches of
//! functions: what has changed since is compiled without it, and costs more again. The counts of `xtask/gateway-cost.json`
//! show when to record a new one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::bench::gateway;
use crate::setup::{self, MUSL};
use crate::steps::{build, cargo, quietly, root, run, step, target};

/// Builds the gateway with counters, puts the loads of the benchmarks on it, and writes what it has counted.
pub(crate) fn record() -> anyhow::Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the profile is that of the executable for x86-64, which cannot run here"
    );
    let merge = merging_program()?;
    setup::musl_target()?;
    let folder = target().join("profile");
    let counts = folder.join("counts");
    let program = instrumented(&folder, &counts)?;
    // Counts of an earlier run would be added.
    if counts.exists() {
        std::fs::remove_dir_all(&counts)?;
    }
    gateway::cost::exercise(&program)?;
    gateway::exercise(&program)?;
    let counts = std::fs::read_dir(&counts)
        .with_context(|| format!("nothing was counted in {}", counts.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let path = path(&root(), MUSL);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    quietly(
        Command::new(merge)
            .args(["merge", "--sparse", "--output"])
            .arg(&path)
            .args(counts),
    )?;
    println!("{}", path.display());
    Ok(())
}

/// Returns the flags that make the compiler use the profile of a target; none if it has no profile. `root`: that of the
/// sources.
pub(crate) fn flags(root: &Path, triple: &str) -> Vec<String> {
    let path = path(root, triple);
    if !path.is_file() {
        return Vec::new();
    }
    vec![
        format!("-Cprofile-use={}", path.display()),
        // What has changed since the profile was recorded is compiled without it. A warning for each function would be no help.
        "-Cllvm-args=-no-pgo-warn-mismatch".to_owned(),
    ]
}

fn path(root: &Path, triple: &str) -> PathBuf {
    root.join(format!("gateway/profiles/{triple}.profdata"))
}

/// Builds the gateway with counters, which it writes to `counts` when it ends; returns the executable.
///
/// Target and options must be those of a release, because the names of functions in the profile depend on them.
fn instrumented(folder: &Path, counts: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = cargo();
    cargo
        .args(["build", "--release", "--package", "fluxlit-gateway"])
        .args(["--target", MUSL, "--target-dir"])
        .arg(folder);
    setup::set_flags(
        &mut cargo,
        [format!("-Cprofile-generate={}", counts.display())],
    );
    build("building the gateway with counters", &mut cargo)?;
    Ok(folder.join(MUSL).join("release/fluxlit-gateway"))
}

/// Returns the program of the toolchain that makes a profile of counts, after adding it if it is missing.
fn merging_program() -> anyhow::Result<PathBuf> {
    let rustlib = setup::sysroot()?.join("lib/rustlib");
    let program = rustlib.join("x86_64-unknown-linux-gnu/bin/llvm-profdata");
    if !program.is_file() {
        step("adding the tools of LLVM", || {
            run(Command::new("rustup").args(["component", "add", "llvm-tools"]))
        })?;
    }
    Ok(program)
}
