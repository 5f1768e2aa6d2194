//! Runs nginx.

use std::path::Path;
use std::process::Command;

use super::replace_once;

pub(super) fn check(executable: &Path, file: &Path) -> Command {
    let mut command = Command::new(executable);
    command
        .arg("-p")
        .arg(file.parent().unwrap_or(Path::new(".")))
        .args(["-t", "-e", "stderr", "-c"])
        .arg(file);
    command
}

/// Writes no access log, and temporary files to the folder that [`run`] names.
pub(super) fn prepare(text: &str) -> String {
    let own = "http {
access_log off;
client_body_temp_path body;
proxy_temp_path proxy;
fastcgi_temp_path fastcgi;
scgi_temp_path scgi;
uwsgi_temp_path uwsgi;";
    replace_once(text, "\nhttp {", &format!("\n{own}"))
}

pub(super) fn run(executable: &Path, file: &Path, folder: &Path) -> Command {
    let mut command = Command::new(executable);
    command
        .arg("-p")
        .arg(folder)
        .args([
            "-e",
            "stderr",
            "-g",
            "daemon off; pid nginx.pid; user root;",
            "-c",
        ])
        .arg(file);
    command
}
