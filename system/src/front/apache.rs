//! Runs Apache httpd.

use std::path::Path;
use std::process::Command;

pub(super) fn check(executable: &Path, file: &Path) -> Command {
    let mut command = apache(executable, file);
    command.arg("-t");
    command
}

/// Writes errors where the test reads them.
pub(super) fn prepare(text: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.trim().starts_with("ErrorLog ") {
            "ErrorLog /dev/stderr\n".to_owned()
        } else {
            format!("{line}\n")
        }
    });
    lines.collect()
}

pub(super) fn run(executable: &Path, file: &Path) -> Command {
    let mut command = apache(executable, file);
    command.arg("-DFOREGROUND");
    command
}

fn apache(executable: &Path, file: &Path) -> Command {
    let mut command = Command::new(executable);
    command
        .arg("-d")
        .arg(file.parent().unwrap_or(Path::new(".")))
        .arg("-f")
        .arg(file);
    command
}
