//! Runs the doctor on a front.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use fluxlit_support::wait::wait_until;
use fluxlit_system::front::Reload;
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
    let output = command(stack, arguments).output();
    read(&output.map_err(|error| error.to_string())?, stack)
}

/// Probes the front, and reloads it while the doctor holds a WebSocket.
///
/// # Errors
///
/// If the doctor opens no WebSocket or ends before the front is reloaded, the front is not reloaded, or the doctor prints no
/// report.
pub(crate) fn probe_while_reloading(
    stack: &Stack,
    arguments: &[&str],
    how: Reload,
) -> Result<Vec<Found>, String> {
    let mut command = command(stack, arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut doctor = command.spawn().map_err(|error| error.to_string())?;
    // An open WebSocket is counted as soon as its handshake has passed the gateway, and the doctor opens no other.
    let reloaded = if wait_until(OPEN_LIMIT, || stack.open_websockets() > 0) {
        stack.reload(how)
    } else {
        Err("the doctor opens no WebSocket".to_owned())
    };
    let has_ended = doctor.try_wait().map_err(|error| error.to_string())?;
    let output = doctor.wait_with_output();
    let found = read(&output.map_err(|error| error.to_string())?, stack)?;
    reloaded?;
    if has_ended.is_some() {
        return Err(format!(
            "the doctor ended before the front was reloaded: {found:#?}"
        ));
    }
    Ok(found)
}

/// Returns the command that probes the front.
fn command(stack: &Stack, arguments: &[&str]) -> Command {
    let mut command = Command::new(named("FLUXLIT_TEST_GATEWAY"));
    // The variables of the tests look like misspelt settings.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLUXLIT_") {
            command.env_remove(name);
        }
    }
    command
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
        .stdin(Stdio::null());
    command
}

fn read(output: &Output, stack: &Stack) -> Result<Vec<Found>, String> {
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

/// The maximum time until the doctor has opened its WebSocket.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
