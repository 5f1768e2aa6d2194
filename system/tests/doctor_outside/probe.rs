//! Runs the doctor on a front.

use std::process::{Command, Stdio};

use fluxlit_system::named;
use serde_json::Value;

use crate::stack::{HOST, MOUNT, Stack};

/// What a check has found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) check: String,
    pub(crate) status: String,
    pub(crate) finding: String,
    pub(crate) hint: String,
}

impl Found {
    pub(crate) fn is_problem(&self) -> bool {
        matches!(self.status.as_str(), "WARN" | "FAIL")
    }
}

/// Probes the front with further arguments.
///
/// # Errors
///
/// If the doctor prints no report.
pub(crate) fn probe(stack: &Stack, arguments: &[&str]) -> Result<Vec<Found>, String> {
    let mut command = Command::new(named("FLUXLIT_TEST_GATEWAY"));
    // The variables of the tests look like misspelt settings.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLUXLIT_") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["doctor", "--json", "--probe"])
        .arg(format!("https://{HOST}{MOUNT}"))
        .arg("--connect-to")
        .arg(format!("443={}", stack.https))
        .arg("--connect-to")
        .arg(format!("80={}", stack.http))
        .arg("--ca-file")
        .arg(&stack.certificate)
        .arg("--token-file")
        .arg(&stack.token)
        .args(arguments)
        .current_dir(stack.folder())
        .env("HOME", stack.folder())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}\n{said}\n{}", output.status, stack.log()))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().ok_or("no list of checks")?;
    Ok(checks
        .iter()
        .map(|check| Found {
            check: text(&check["id"]),
            status: text(&check["status"]),
            finding: text(&check["detail"]),
            hint: text(&check["hint"]),
        })
        .collect())
}
