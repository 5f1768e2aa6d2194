//! Runs HAProxy.

use std::path::Path;
use std::process::Command;

pub(super) fn check(executable: &Path, file: &Path) -> Command {
    let mut command = haproxy(executable);
    command.arg("-c").arg("-f").arg(file);
    command
}

/// `-W`: with a master process, as Debian's service does, which reloads the configuration on a signal.
pub(super) fn run(executable: &Path, file: &Path) -> Command {
    let mut command = haproxy(executable);
    command.arg("-W").arg("-f").arg(file);
    command
}

/// The package of the recent version has its libraries in a folder next to the program; Debian has no such folder.
fn haproxy(executable: &Path) -> Command {
    let mut command = Command::new(executable);
    command.env("LD_LIBRARY_PATH", executable.with_file_name("lib"));
    command
}
