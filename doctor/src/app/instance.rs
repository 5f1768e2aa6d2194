//! Starts further instances of the gateway's program for the self-tests.
//!
//! The program is used as a user would: by its arguments, environment, log and signals. So the self-tests find faults in the
//! data path, and share no code with it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::app::log::{Cause, Log, listening};
use crate::app::subject::Subject;
use crate::wire::LIMIT;

/// A running instance; it ends with this value.
#[derive(Debug)]
pub(crate) struct Instance {
    child: Child,
    log: Log,
    /// Reads the log to its end.
    reader: JoinHandle<()>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// The error when an instance does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// It has said why.
    #[error("{}", .0.finding)]
    Cause(Cause),
    /// The program cannot be started or read, or is too slow.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Cause(cause) => Self::other(cause.finding),
            StartError::Io(error) => error,
        }
    }
}

impl Instance {
    /// Starts an instance with the subject's settings, in front of another upstream.
    pub(crate) async fn in_front_of(
        subject: &Subject,
        upstream: SocketAddr,
        changes: &[(&str, &str)],
    ) -> io::Result<Self> {
        let mut command = Command::new(&subject.program);
        // Neither a settings file nor an .env file of the app's folder may add settings: all are passed.
        command
            .args(["run", "--settings-file", "/dev/null"])
            .current_dir("/");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FLUXLIT_") {
                command.env_remove(name);
            }
        }
        for (name, value) in &subject.settings {
            if !NOT_FOR_SELF_TESTS.contains(&name.as_str()) {
                command.env(name, value);
            }
        }
        command.env(
            "FLUXLIT_STREAMLIT_UPSTREAM",
            format!("http://{upstream}{}", subject.base),
        );
        command.envs(changes.iter().copied());
        Ok(Self::start(command).await?)
    }

    /// Starts the app as the subject's gateway would, with the same settings.
    pub(crate) async fn of_app(subject: &Subject) -> Result<Self, StartError> {
        let mut command = Command::new(&subject.program);
        command.arg("run").args(&subject.app);
        // The gateway of the app may be running, so its addresses are in use.
        command.env("FLUXLIT_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:0");
        Self::start(command).await
    }

    async fn start(mut command: Command) -> Result<Self, StartError> {
        command
            .args(["--host", "127.0.0.1", "--port", "0"])
            .env("RUST_LOG", "info")
            .env("FLUXLIT_LOG_LEVEL", "info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let output = child
            .stderr
            .take()
            .ok_or_else(|| io::Error::other("no log"))?;
        let mut lines = BufReader::new(output).lines();
        let log = Log::default();
        let address = async {
            let mut last = String::new();
            while let Some(line) = lines.next_line().await? {
                if let Some(address) = listening(&line) {
                    return Ok(address);
                }
                last.clone_from(&line);
                log.push(line);
            }
            Err(match log.cause() {
                Some(cause) => StartError::Cause(cause),
                None => io::Error::other(format!("the program has ended: {last}")).into(),
            })
        };
        let address = timeout(START_LIMIT, address).await.unwrap_or_else(|_| {
            let late = io::Error::new(io::ErrorKind::TimedOut, "the gateway does not start");
            Err(late.into())
        })?;
        // The log is read to its end, or the instance would stop when the pipe is full.
        let further = log.clone();
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                further.push(line);
            }
        });
        Ok(Self {
            child,
            log,
            reader,
            address,
        })
    }

    /// Returns why the app does not run, if the log says so.
    pub(crate) async fn cause(&mut self) -> Option<Cause> {
        if self.has_ended() {
            // A process that it has left behind may keep the log open.
            let _ = timeout(LIMIT, &mut self.reader).await;
        }
        self.log.cause()
    }

    /// Returns true if it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Returns the process id while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends SIGTERM, as a supervisor does.
    pub(crate) async fn terminate(&self) -> io::Result<()> {
        let id = self.id().ok_or_else(|| io::Error::other("it has ended"))?;
        let status = Command::new("kill")
            .args(["-TERM", &id.to_string()])
            .status()
            .await?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other("kill failed"))
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> io::Result<std::process::ExitStatus> {
        timeout(LIMIT, self.child.wait())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Returns the port of the Streamlit that a process runs, itself or by a process that it has started. Waits until it has
/// started it; `None` if the process ends before.
pub(crate) async fn streamlit_port(process: u32) -> Option<u16> {
    let limit = tokio::time::Instant::now() + START_LIMIT;
    while tokio::time::Instant::now() < limit
        && Path::new("/proc").join(process.to_string()).exists()
    {
        let port = descendants(process).into_iter().find_map(server_port);
        if port.is_some() {
            return port;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    None
}

/// Returns the port in the command line of a Streamlit.
fn server_port(process: u32) -> Option<u16> {
    let command = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let mut words = command
        .split(|octet| *octet == 0)
        .map(String::from_utf8_lossy);
    while let Some(word) = words.next() {
        if let Some(port) = word.strip_prefix("--server.port=") {
            return port.parse().ok();
        }
        if word == "--server.port" {
            return words.next()?.parse().ok();
        }
    }
    None
}

/// Returns the processes that a process has started, and those that these have started.
pub(crate) fn descendants(process: u32) -> Vec<u32> {
    let mut found = vec![process];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next = next.saturating_add(1);
        found.extend(children(parent));
    }
    found.remove(0);
    found
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(Path::new("/proc").join(parent.to_string()).join("task"))
    else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

/// The time limit of a start, which includes that of Streamlit.
const START_LIMIT: std::time::Duration = std::time::Duration::from_secs(90);

/// Settings that concern the process, or another upstream, and not what happens to a request.
const NOT_FOR_SELF_TESTS: [&str; 17] = [
    "FLUXLIT_API_UPSTREAM",
    "FLUXLIT_API_HEALTH_PATH",
    "FLUXLIT_DRAIN_DELAY_S",
    "FLUXLIT_GATEWAY_ADMIN_ADDRESS",
    "FLUXLIT_GATEWAY_HOST",
    "FLUXLIT_GATEWAY_PORT",
    "FLUXLIT_GATEWAY_REUSE_PORT",
    "FLUXLIT_GATEWAY_WORKERS",
    "FLUXLIT_OTLP_ENDPOINT",
    "FLUXLIT_PROBE_KEY",
    "FLUXLIT_REDIRECT_TO_HTTPS",
    "FLUXLIT_STREAMLIT_COMMAND",
    "FLUXLIT_STRICT_STARTUP",
    "FLUXLIT_STREAMLIT_UPSTREAM",
    "FLUXLIT_TLS_CERTIFICATE",
    "FLUXLIT_TLS_CLIENT_CA",
    "FLUXLIT_TLS_KEY",
];
