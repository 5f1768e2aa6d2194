//! How is an Envoy started, waited for and ended?
//!
//! It lives as long as the value. Its log goes to a file beside its configuration; the end of that log is in the error
//! if it does not come up. It chooses its ports itself: one that was free a moment ago may be somebody else's by the time
//! it listens.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::admin::Admin;
use super::logs;

/// The process, which ends with the value.
pub(super) struct Process {
    child: Child,
    folder: PathBuf,
}

impl Process {
    /// Starts Envoy; its files lie in `folder`.
    pub(super) fn start(
        program: &Path,
        folder: &Path,
        config: &str,
        log_level: &str,
    ) -> anyhow::Result<Self> {
        let path = folder.join("envoy.json");
        std::fs::write(&path, config)?;
        let child = Command::new(program)
            .arg("--config-path")
            .arg(&path)
            .arg("--admin-address-path")
            .arg(folder.join(ADMIN))
            .args(["--component-log-level", &format!("wasm:{log_level}")])
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warn",
                "--log-format",
                logs::FORMAT,
            ])
            .args(["--file-flush-interval-msec", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Unlike a log that it opens itself, this one has each line when it is said.
            .stderr(File::create(folder.join(LOG))?)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        Ok(Self {
            child,
            folder: folder.to_owned(),
        })
    }

    /// Waits until Envoy serves; `None` if it ends instead.
    pub(super) async fn wait_until_ready(&mut self) -> anyhow::Result<Option<Admin>> {
        let admin_path = self.folder.join(ADMIN);
        let child = &mut self.child;
        let ended = wait_for(START_LIMIT, async || {
            let address = std::fs::read_to_string(&admin_path).unwrap_or_default();
            if let Ok(address) = address.trim().parse() {
                let admin = Admin { address };
                if admin.is_ready().await {
                    return Some(Ok(Some(admin)));
                }
            }
            child
                .try_wait()
                .map(|status| status.map(|_| None))
                .transpose()
        })
        .await;
        match ended {
            Some(ended) => Ok(ended?),
            None => bail!("Envoy does not come up:\n{}", end_of(&self.log())),
        }
    }

    /// What it has logged so far, for a person.
    pub(super) fn log(&self) -> String {
        self.marked_log().replace(logs::BEGIN, "")
    }

    /// The same, in the form of [`logs::FORMAT`].
    pub(super) fn marked_log(&self) -> String {
        let bytes = std::fs::read(self.folder.join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log.
pub(super) fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines
        .get(lines.len().saturating_sub(10)..)
        .unwrap_or_default()
        .join("\n")
}

/// Asks until there is an answer, or the limit has passed.
pub(super) async fn wait_for<T>(
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = ask().await;
        if answer.is_some() || Instant::now() > deadline {
            return answer;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Between two questions, so that Envoy has the processor.
const PAUSE: Duration = Duration::from_millis(2);

const ADMIN: &str = "admin";
const LOG: &str = "envoy.log";

const START_LIMIT: Duration = Duration::from_secs(120);
