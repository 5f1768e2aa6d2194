//! Finds the programs under test.

use std::path::PathBuf;

/// Returns the path in this environment variable.
///
/// # Panics
///
/// If it is not set.
#[must_use]
pub fn named(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            panic!("{variable} is not set; run `cargo xtask test`, which sets it up")
        })
}
