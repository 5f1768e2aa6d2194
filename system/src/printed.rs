//! Has the gateway's program print the configuration of a front.

use std::path::Path;
use std::process::Command;

use crate::programs::named;

/// Runs `fluxlit-gateway config --for` with these settings and options, and writes the files to `output`. Returns the warnings.
///
/// # Panics
///
/// If the program fails.
pub fn print(
    front: &str,
    settings: &[(&str, String)],
    options: &[String],
    output: &Path,
) -> String {
    let mut command = Command::new(named("FLUXLIT_TEST_GATEWAY"));
    command
        .args(["config", "--for", front, "--output"])
        .arg(output)
        .args(options)
        .envs(settings.iter().map(|(name, value)| (name, value)));
    let printed = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let messages = String::from_utf8_lossy(&printed.stderr).into_owned();
    assert!(printed.status.success(), "{command:?}: {messages}");
    messages
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect::<Vec<_>>()
        .join("\n")
}
