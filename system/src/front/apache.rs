//! Runs Apache httpd.

use std::path::Path;
use std::process::Command;

use super::replace_once;

pub(super) fn check(executable: &Path, file: &Path) -> Command {
    let mut command = Command::new(executable);
    command.arg("-t").arg("-f").arg(file);
    command
}

/// Writes log, process id and locks to `folder`.
pub(super) fn prepare(text: &str, folder: &Path) -> String {
    let folder = folder.display();
    let text = replace_once(
        text,
        "PidFile /run/apache2-fluxlit.pid",
        &format!("DefaultRuntimeDir {folder}\nPidFile {folder}/apache.pid"),
    );
    replace_once(
        &text,
        "ErrorLog /var/log/apache2/error.log",
        "ErrorLog /dev/stderr",
    )
}

pub(super) fn run(executable: &Path, file: &Path) -> Command {
    let mut command = Command::new(executable);
    command.arg("-DFOREGROUND").arg("-f").arg(file);
    command
}
