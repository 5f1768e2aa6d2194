//! `cargo xtask check`: lock files, formatting, layers, what is compiled for a first start, module summaries, configuration
//! files, links, workflows, lints, documentation and licences.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::setup::{self, WASM, wasm_target};
use crate::steps::{self, cargo, native_packages, root, step};
use crate::{configuration_files, layers, markdown, module_docs, workflows};

/// A name, a description, and the check.
type Check = (&'static str, &'static str, fn() -> anyhow::Result<()>);

const CHECKS: [Check; 12] = [
    ("lock-files", "lock files are up to date", lock_files),
    ("format", "formatting", format),
    ("layers", "imports go down the layers", layers::check),
    (
        "first-start",
        "`cargo xtask up` does not compile the WebAssembly runtime",
        first_start,
    ),
    (
        "summaries",
        "each source file opens with a summary",
        module_docs::check,
    ),
    (
        "configuration-files",
        "each configuration file is read by a test",
        configuration_files::check,
    ),
    ("links", "links of the documentation", markdown::check),
    (
        "workflows",
        "workflows of continuous integration",
        workflows::check,
    ),
    ("lints", "lints, native", lints),
    ("lints-wasm", "lints, wasm", lints_wasm),
    ("docs", "documentation", docs),
    (
        "licences",
        "licences, sources, duplicate dependencies",
        licences,
    ),
];

/// Packages outside the workspace, each with its own lock file.
const SEPARATE: [&str; 2] = ["envoy/bench/empty-filter", "fuzz"];

/// Runs the named checks, or all of them if `names` is empty.
pub(crate) fn run(names: &[String]) -> anyhow::Result<()> {
    for name in names {
        ensure!(
            CHECKS.iter().any(|(check, ..)| check == name),
            "unknown check `{name}`: expected one of {}",
            CHECKS.map(|(check, ..)| check).join(", ")
        );
    }
    for (name, description, check) in CHECKS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            step(description, check)?;
        }
    }
    Ok(())
}

/// Checks that no lock file lacks a new dependency: builds with `--locked` would fail on it much later.
fn lock_files() -> anyhow::Result<()> {
    for folder in std::iter::once(".").chain(SEPARATE) {
        steps::quietly(
            cargo()
                .args(["metadata", "--locked", "--format-version", "1"])
                .arg("--manifest-path")
                .arg(root().join(folder).join("Cargo.toml")),
        )?;
    }
    Ok(())
}

/// Compiling it takes two thirds of the time until a newcomer sees the first page, and only the test host needs it.
fn first_start() -> anyhow::Result<()> {
    let output = cargo()
        .args(["tree", "--package", "xtask", "--package", "fluxlit-gateway"])
        .args(["--edges", "normal,build", "--prefix", "none"])
        .current_dir(root())
        .output()
        .context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains("tokio v"),
        "`cargo tree` has failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let runtime = text.lines().find(|line| line.starts_with("wasmtime v"));
    ensure!(
        runtime.is_none(),
        "the gateway or xtask depends on {}: see `cargo tree --invert wasmtime`",
        runtime.unwrap_or_default()
    );
    Ok(())
}

fn format() -> anyhow::Result<()> {
    steps::run(cargo().args(["fmt", "--all", "--check"]))?;
    for folder in SEPARATE {
        steps::run(
            cargo()
                .args(["fmt", "--check", "--manifest-path"])
                .arg(root().join(folder).join("Cargo.toml")),
        )?;
    }
    Ok(())
}

fn lints() -> anyhow::Result<()> {
    steps::run(native_packages(cargo().args(["clippy", "--quiet"])).args([
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn lints_wasm() -> anyhow::Result<()> {
    wasm_target()?;
    steps::run(cargo().args([
        "clippy",
        "--quiet",
        "--package",
        "fluxlit-filter",
        "--all-targets",
        "--target",
        WASM,
        "--",
        "-D",
        "warnings",
    ]))
}

/// Documents the same targets that the lints have compiled, with the same features, so that nothing is compiled again: with
/// examples, Cargo counts the features of dev-dependencies. The other programs have libraries of the same names, whose pages they
/// would replace.
fn docs() -> anyhow::Result<()> {
    let document = |command: &mut Command| {
        steps::run(
            command
                .args(["--quiet", "--no-deps", "--document-private-items"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    };
    document(native_packages(cargo().arg("doc")).args(["--lib", "--bin", "xtask", "--examples"]))?;
    wasm_target()?;
    document(cargo().args([
        "doc",
        "--package",
        "fluxlit-filter",
        "--lib",
        "--target",
        WASM,
    ]))
}

fn licences() -> anyhow::Result<()> {
    steps::run(Command::new(setup::cargo_deny()?).args([
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))
}
