//! Lets Envoy itself check a bootstrap (F08).

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::outcome::Outcome;

/// Runs `envoy --mode validate`, which starts the filter with its configuration.
pub(crate) async fn check(envoy: &Path, file: &Path, outcome: &mut Outcome) {
    match validate(envoy, file).await {
        Ok(Ok(())) => outcome.right(format!("{}: Envoy accepts it", file.display())),
        Ok(Err(reason)) => outcome.fail(
            format!("{}: Envoy rejects it: {reason}", file.display()),
            "correct what the message names; the filter's own messages begin with E and a number",
        ),
        Err(error) => outcome.skip(format!("{} cannot be started: {error}", envoy.display())),
    }
}

/// Starts an executable and ends it again, which shows whether it can be started.
///
/// # Errors
///
/// If it does not exist or cannot be executed.
pub async fn can_start(envoy: &Path) -> io::Result<()> {
    let mut command = command(envoy);
    command.arg("--version");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // It may have ended by itself.
    let _ = command.spawn()?.kill().await;
    Ok(())
}

fn command(envoy: &Path) -> Command {
    // Without a folder in its name, it is looked for in PATH.
    let mut command = Command::new(envoy.canonicalize().unwrap_or_else(|_| envoy.to_owned()));
    command.stdin(Stdio::null());
    command
}

async fn validate(envoy: &Path, file: &Path) -> io::Result<Result<(), String>> {
    let file = file.canonicalize()?;
    let mut command = command(envoy);
    command
        .arg("--config-path")
        .arg(&file)
        .args(["--mode", "validate", "--log-level", "error"]);
    // Paths in the file, such as that of the module, are relative to its folder.
    if let Some(folder) = file.parent() {
        command.current_dir(folder);
    }
    let output = command.output().await?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let said: Vec<&str> = text
        .lines()
        .map(message)
        .filter(|line| !line.is_empty())
        .collect();
    // What the filter says comes first; the last line only says that the whole failed.
    let own = said
        .iter()
        .find(|line| line.contains(": E") || line.contains("fluxlit"));
    Ok(Err(
        (*own.or(said.last()).unwrap_or(&"no message")).to_owned()
    ))
}

/// Returns a line of Envoy's log without its prefix in brackets.
fn message(line: &str) -> &str {
    let mut rest = line;
    while let Some(after) = rest.strip_prefix('[') {
        rest = after
            .split_once(']')
            .map_or("", |(_, rest)| rest)
            .trim_start();
    }
    rest.trim()
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn the_prefix_of_a_log_line_is_removed() {
        let line =
            "[2026-11-23 10:00:00.000][1][critical][main] [source/server/server.cc:448] error `x`";
        assert_eq!(message(line), "error `x`");
        assert_eq!(message("plain"), "plain");
    }
}
