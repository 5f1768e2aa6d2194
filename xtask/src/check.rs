//! Formatting, lints, documentation, licences: what continuous integration refuses.

use crate::setup::{WASM, find, wasm_target};
use crate::steps::{self, cargo, root, step};

/// Packages with a lock file of their own, outside the workspace.
const APART: [&str; 3] = ["envoy/bench/empty-filter", "fuzz", "host-test/example"];

pub(crate) fn run() -> anyhow::Result<()> {
    wasm_target()?;
    // What is built with `--locked` much later would fail on a lock file that a new dependency left behind.
    step("lock files", || {
        for folder in std::iter::once(".").chain(APART) {
            steps::quietly(
                cargo()
                    .args(["metadata", "--locked", "--format-version", "1"])
                    .arg("--manifest-path")
                    .arg(root().join(folder).join("Cargo.toml")),
            )?;
        }
        Ok(())
    })?;
    step("formatting", || {
        steps::run(cargo().args(["fmt", "--all", "--check"]))?;
        for folder in APART {
            steps::run(
                cargo()
                    .args(["fmt", "--check", "--manifest-path"])
                    .arg(root().join(folder).join("Cargo.toml")),
            )?;
        }
        Ok(())
    })?;
    step("lints, native", || {
        steps::run(cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--exclude",
            "fluxlit-filter",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("lints, wasm", || {
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
    })?;
    step("documentation", || {
        steps::run(
            cargo()
                .args([
                    "doc",
                    "--quiet",
                    "--workspace",
                    "--no-deps",
                    "--document-private-items",
                ])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    })?;
    anyhow::ensure!(
        find("cargo-deny").is_some(),
        "cargo-deny is needed: cargo install --locked cargo-deny"
    );
    step("licences, sources, duplicates", || {
        steps::run(cargo().args([
            "deny",
            "--log-level",
            "error",
            "check",
            "bans",
            "licenses",
            "sources",
        ]))
    })
}
