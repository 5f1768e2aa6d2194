//! Formatting, lints, documentation, licences: what continuous integration refuses.

use crate::setup::{WASM, find, wasm_target};
use crate::steps::{self, cargo, step};

pub(crate) fn run() -> anyhow::Result<()> {
    wasm_target()?;
    step("formatting", || {
        steps::run(cargo().args(["fmt", "--all", "--check"]))
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
