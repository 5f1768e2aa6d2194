//! How is Streamlit started, watched and ended?
//!
//! It runs in a process group of its own, so that whatever it starts ends with it: SIGTERM to the group, then SIGKILL
//! when the grace period is over. If the gateway itself dies without a chance to do so, the kernel ends Streamlit: that
//! signal is tied to the thread that started it, which is why the supervisor runs on the main thread. Streamlit's own
//! protections, XSRF and CORS, stay on.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::settings::{
    App, FIELDS_VARIABLE, LINE_VARIABLE, STARTED_FIELDS, STARTED_LINE, Settings,
};

/// Runs Streamlit, and again whenever it ends, until the future is dropped.
pub(crate) struct Supervisor {
    command: String,
    app: App,
    base: String,
    /// Pages elsewhere that may open the app's WebSocket.
    origins: Vec<String>,
    child: Option<Child>,
}

impl Supervisor {
    pub(crate) fn new(settings: &Settings, app: &App) -> Self {
        Self {
            command: settings.streamlit_command.clone(),
            app: app.clone(),
            base: settings.upstream.base.clone(),
            origins: settings.origins.clone(),
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
        // Without these, its WebSocket server leaves a handshake with a long cookie open for ever.
        for (variable, value) in [
            (LINE_VARIABLE, STARTED_LINE),
            (FIELDS_VARIABLE, STARTED_FIELDS),
        ] {
            if std::env::var_os(variable).is_none() {
                command.env(variable, value);
            }
        }
        for origin in self.origins.iter().filter(|origin| *origin != "*") {
            command.args(["--server.corsAllowedOrigins", origin]);
        }
        let base = self.base.trim_start_matches('/');
        if !base.is_empty() {
            command.args(["--server.baseUrlPath", base]);
        }
        #[expect(
            unsafe_code,
            reason = "the one way to have the kernel end a child with its parent"
        )]
        // SAFETY: between fork and exec only a system call is made, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                set_parent_process_death_signal(Some(Signal::TERM)).map_err(Into::into)
            });
        }
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Waits for Streamlit to end, and starts it again; the pauses grow while it does not stay up.
    pub(crate) async fn keep_running(&mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            if let Some(child) = &mut self.child {
                match child.wait().await {
                    Ok(status) => {
                        tracing::error!(%status, "Streamlit has ended; it is started again");
                    }
                    Err(error) => tracing::error!(%error, "Streamlit cannot be watched"),
                }
            }
            if started.elapsed() > STABLE {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if let Err(error) = self.start() {
                tracing::error!(%error, command = self.command, "Streamlit cannot be started");
            }
        }
    }

    /// Ends Streamlit and everything it has started.
    pub(crate) async fn end(&mut self, grace_period: Duration) {
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
        // Whoever is gone already needs no signal.
        let _ = kill_process_group(group, Signal::TERM);
        if timeout(grace_period, child.wait()).await.is_err() {
            tracing::warn!("Streamlit did not end in time");
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Having run for this long, Streamlit counts as having started well.
const STABLE: Duration = Duration::from_secs(60);
