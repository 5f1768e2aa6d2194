//! Runs nginx.

use std::path::Path;
use std::process::Command;

pub(super) fn check(executable: &Path, file: &Path) -> Command {
    let mut command = Command::new(executable);
    command
        .arg("-p")
        .arg(file.parent().unwrap_or(Path::new(".")))
        .args(["-t", "-e", "stderr", "-c"])
        .arg(file);
    command
}

pub(super) fn run(executable: &Path, file: &Path, folder: &Path) -> Command {
    let mut command = Command::new(executable);
    command
        .arg("-p")
        .arg(folder)
        .args(["-e", "stderr", "-g", "daemon off; user root;", "-c"])
        .arg(file);
    command
}
