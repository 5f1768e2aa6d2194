//! Runs Traefik.

use std::path::Path;
use std::process::Command;

/// Does not ask for newer versions, and writes its log without colours, so that errors can be found in it.
pub(super) fn prepare(text: &str) -> String {
    format!(
        "{text}\nglobal: {{checkNewVersion: false, sendAnonymousUsage: false}}\nlog: {{noColor: true}}\n"
    )
}

pub(super) fn run(executable: &Path, file: &Path) -> Command {
    let mut command = Command::new(executable);
    command.arg(format!("--configFile={}", file.display()));
    command
}
