//! Runs Caddy.

use std::path::Path;
use std::process::Command;

use super::replace_once;

pub(super) fn check(executable: &Path, file: &Path) -> Command {
    let mut command = Command::new(executable);
    command
        .args(["validate", "--adapter", "caddyfile", "--config"])
        .arg(file);
    command
}

/// Switches off the admin interface, whose port other instances use.
pub(super) fn prepare(text: &str) -> String {
    replace_once(text, "\n{\n", "\n{\n\tadmin off\n\tpersist_config off\n")
}

/// Caddy stores certificates and locks in `folder`.
pub(super) fn run(executable: &Path, file: &Path, folder: &Path) -> Command {
    let mut command = Command::new(executable);
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(file)
        .env("XDG_DATA_HOME", folder)
        .env("XDG_CONFIG_HOME", folder);
    command
}
