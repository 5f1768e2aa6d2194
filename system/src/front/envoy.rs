//! Runs Envoy.

use std::path::Path;
use std::process::Command;

use fluxlit_support::envoy::Envoy;
use serde_json::{Value, json};

pub(super) fn check(executable: &Path, file: &Path) -> Command {
    let mut command = Command::new(executable);
    command.args(["--mode", "validate", "-c"]).arg(file);
    command
}

/// Starts Envoy with its admin interface on any free port.
pub(super) fn start(executable: &Path, folder: &Path, text: &str) -> Result<Envoy, String> {
    let mut bootstrap: Value =
        serde_saphyr::from_str(text).map_err(|error| format!("{error}\n{text}"))?;
    bootstrap["admin"]["address"]["socket_address"]["port_value"] = json!(0);
    let arguments = ["--concurrency", "1"];
    Envoy::start(executable, &bootstrap.to_string(), folder, &arguments)
        .map_err(|error| error.to_string())
}
