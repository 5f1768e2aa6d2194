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

/// Moves the admin interface, whose port other instances use, to a socket in `folder`.
pub(super) fn prepare(text: &str, folder: &Path) -> String {
    let own = format!("\n{{\n\tadmin {}\n\tpersist_config off\n", admin(folder));
    replace_once(text, "\n{\n", &own)
}

fn admin(folder: &Path) -> String {
    format!("unix/{}", folder.join("admin.sock").display())
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

/// Reloads the configuration file.
pub(super) fn reload(executable: &Path, file: &Path) -> Result<(), String> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut command = Command::new(executable);
    command
        .args(["reload", "--adapter", "caddyfile", "--config"])
        .arg(file)
        .args(["--address", &admin(folder)]);
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
