//! Starts Streamlit, restarts it when it ends, and stops it.
//!
//! It runs in its own process group, so that the processes it starts end with it: SIGTERM to the group, then SIGKILL when the
//! grace period is over. If the gateway is killed, the kernel ends Streamlit. That signal is bound to the thread that started
//! it, so the supervisor runs on the main thread. Streamlit's protections against XSRF and CORS stay on.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::observe::metrics::Metrics;
use crate::observe::upstream::Upstream;
use crate::settings::{App, STREAMLIT_FIELDS, STREAMLIT_LINE, Settings, TRUSTED_USER_HEADERS};

/// Runs Streamlit as a child process.
pub(crate) struct Supervisor {
    command: String,
    app: App,
    base: String,
    /// Origins of other pages that may open the app's WebSocket.
    origins: Vec<String>,
    /// `server.trustedUserHeaders` as JSON.
    trusted_user_headers: String,
    child: Option<Child>,
}

impl Supervisor {
    pub(crate) fn new(settings: &Settings, app: &App) -> Self {
        Self {
            command: settings.streamlit_command.clone(),
            app: app.clone(),
            base: settings.upstream.base.clone(),
            origins: settings.origins.clone(),
            trusted_user_headers: Value::Object(settings.trusted_user_headers.clone()).to_string(),
            child: None,
        }
    }

    /// Starts Streamlit.
    ///
    /// # Errors
    ///
    /// If the executable cannot be started.
    pub(crate) fn start(&mut self) -> std::io::Result<()> {
        let mut command = Command::new(&self.command);
        command
            .args([
                "run",
                &self.app.script,
                "--server.address",
                "127.0.0.1",
                "--server.port",
            ])
            .arg(self.app.port.to_string())
            .args([
                "--server.headless",
                "true",
                "--browser.gatherUsageStats",
                "false",
            ])
            .stdin(std::process::Stdio::null())
            .stdout(std::io::stderr())
            .process_group(0);
        // Without these, its WebSocket server hangs on a handshake with a long cookie.
        for limit in [STREAMLIT_LINE, STREAMLIT_FIELDS] {
            if std::env::var_os(limit.variable).is_none() {
                command.env(limit.variable, limit.when_started);
            }
        }
        // Takes precedence over the files, which Streamlit reads again when they change. A variable, because older versions
        // reject an unknown flag.
        command.env(TRUSTED_USER_HEADERS, &self.trusted_user_headers);
        for origin in self.origins.iter().filter(|origin| *origin != "*") {
            command.args(["--server.corsAllowedOrigins", origin]);
        }
        let base = self.base.trim_start_matches('/');
        if !base.is_empty() {
            command.args(["--server.baseUrlPath", base]);
        }
        #[expect(
            unsafe_code,
            reason = "the only way to have the kernel end a child with its parent"
        )]
        // SAFETY: only one system call is made between fork and exec, and it is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                set_parent_process_death_signal(Some(Signal::TERM)).map_err(Into::into)
            });
        }
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Restarts Streamlit whenever it ends. The pause doubles with each restart until Streamlit stays up.
    pub(crate) async fn keep_running(&mut self, metrics: &Metrics) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            if let Some(child) = &mut self.child {
                match child.wait().await {
                    Ok(status) => {
                        tracing::error!(%status, "Streamlit has ended and is restarted");
                    }
                    Err(error) => tracing::error!(%error, "cannot wait for Streamlit"),
                }
            }
            if started.elapsed() > STABLE {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
            metrics.upstream_restarted(Upstream::Streamlit);
            if let Err(error) = self.start() {
                tracing::error!(%error, command = self.command, "cannot start Streamlit");
            }
        }
    }

    /// Stops Streamlit and the processes it has started.
    pub(crate) async fn stop(&mut self, grace_period: Duration) {
        let Some(child) = &mut self.child else {
            return;
        };
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let Some(group) = group else {
            return;
        };
        // Fails if the processes have ended already.
        let _ = kill_process_group(group, Signal::TERM);
        if timeout(grace_period, child.wait()).await.is_err() {
            tracing::warn!("Streamlit did not end in time");
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// After this time, Streamlit counts as stable, and the next restart is fast again.
const STABLE: Duration = Duration::from_secs(60);
