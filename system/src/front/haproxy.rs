//! Runs HAProxy.

use std::path::Path;
use std::process::Command;

pub(super) fn check(executable: &Path, file: &Path) -> Command {
    let mut command = Command::new(executable);
    command.arg("-c").arg("-f").arg(file);
    command
}

/// `-db`: in the foreground.
pub(super) fn run(executable: &Path, file: &Path) -> Command {
    let mut command = Command::new(executable);
    command.arg("-db").arg("-f").arg(file);
    command
}
