//! Shows progress and runs commands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Returns cargo's target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Prints the description of a step and runs it. While it runs, prints from time to time how long it has taken, and its
/// duration if that was two seconds or more.
pub(crate) fn step<T>(
    description: &str,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let (end, ended) = mpsc::channel::<()>();
        scope.spawn(move || report(description, &ended));
        let result = timed(description, work);
        // The thread ends when the channel does.
        drop(end);
        result
    })
}

/// Runs cargo to build something. Cargo shows its progress itself.
pub(crate) fn build(description: &str, command: &mut Command) -> anyhow::Result<()> {
    timed(description, || run(command))
}

fn timed<T>(description: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    eprintln!("{description} …");
    let started = Instant::now();
    let result = work().with_context(|| description.to_owned())?;
    let elapsed = started.elapsed();
    if elapsed >= LONG {
        eprintln!("{description}: done in {} s", elapsed.as_secs());
    }
    Ok(result)
}

/// Prints how long a step has taken, until its channel ends.
fn report(description: &str, ended: &mpsc::Receiver<()>) {
    let started = Instant::now();
    let mut pause = LONG;
    while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        eprintln!("{description}: {} s so far …", started.elapsed().as_secs());
        pause = PAUSE;
    }
}

/// Runs a command in the root of the repository, and shows its output.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .current_dir(root())
        .status()
        .with_context(|| format!("cannot run {}", show(command)))?;
    ensure!(status.success(), "{} failed ({status})", show(command));
    Ok(())
}

/// Runs a command in the root of the repository, without its standard output.
pub(crate) fn quietly(command: &mut Command) -> anyhow::Result<()> {
    run(command.stdout(Stdio::null()))
}

/// Returns a command for the cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Selects all packages that run here, so that Cargo chooses the same features of dependencies for each command, and
/// compiles them once.
pub(crate) fn native_packages(command: &mut Command) -> &mut Command {
    command.args(["--workspace", "--exclude", "fluxlit-filter"])
}

fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// A step that takes this long reports how far it is.
const LONG: Duration = Duration::from_secs(2);

/// The time between two such reports.
const PAUSE: Duration = Duration::from_secs(10);

/// Lists the files that git tracks or would add, by their path from the root and in order; only those that match one of the
/// patterns, if there are any. Files that are deleted, but not committed yet, are left out.
pub(crate) fn repository_files(patterns: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
        ])
        .args(patterns)
        .current_dir(root())
        .output()
        .context("cannot run git")?;
    ensure!(output.status.success(), "git ls-files failed");
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|file| root().join(file).exists())
        .map(str::to_owned)
        .collect())
}
