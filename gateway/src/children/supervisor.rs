//! Starts one child, restarts it when it ends, and stops it.
//!
//! The pause before a restart doubles until the child stays up. A child that ends too often in a row, each time soon after
//! its start, is not restarted: the gateway ends, with the child's last lines, so that a process manager notices. So does an API
//! that cannot be imported when it is started for the first time.

use std::fmt;
use std::io::PipeWriter;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::children::advice::{advice, is_about_an_import};
use crate::children::launcher;
use crate::children::output::{self, LastLines};
use crate::children::processes::{MARK, end_marked};
use crate::children::program::Program;
use crate::observe::metrics::Metrics;
use crate::observe::upstream::Upstream;

/// Runs a program as a child process.
pub(crate) struct Supervisor {
    program: Program,
    grace_period: Duration,
    last_lines: LastLines,
    running: Option<Running>,
}

/// A child that was started.
struct Running {
    guard: Child,
    /// Distinguishes the processes of this start from all others.
    mark: String,
    output: JoinHandle<()>,
    /// The guard ends the program when this is closed.
    _gateway_runs: PipeWriter,
}

/// The error when a child cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The executable does not exist.
    #[error("`{0}` is not installed")]
    NotFound(String),
    /// The guard cannot be started.
    #[error(transparent)]
    Guard(#[from] std::io::Error),
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// The error when a child ends again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildFailure {
    /// The name of the child.
    pub title: &'static str,
    /// How often in a row it ended soon after its start.
    pub times: u32,
    /// How it ended the last time.
    pub ended: Ended,
    /// Its last lines, the oldest first.
    pub last_lines: Vec<String>,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Supervisor {
    pub(crate) fn new(program: Program, grace_period: Duration) -> Self {
        Self {
            program,
            grace_period,
            last_lines: LastLines::default(),
            running: None,
        }
    }

    /// Starts the child.
    ///
    /// # Errors
    ///
    /// If the executable does not exist, or the guard cannot be started.
    pub(crate) fn start(&mut self) -> Result<(), StartError> {
        if !self.program.exists() {
            let name = self.program.executable.to_string_lossy();
            return Err(StartError::NotFound(name.into_owned()));
        }
        if !launcher::is_available() {
            return Err(std::io::Error::other(launcher::NOT_AVAILABLE).into());
        }
        let (gateway_ended, gateway_runs) = std::io::pipe()?;
        let (output, written) = std::io::pipe()?;
        let mark = uuid::Uuid::new_v4().to_string();
        let mut command = Command::from(launcher::command(self.grace_period, gateway_ended.into()));
        command
            .arg(&self.program.executable)
            .args(&self.program.arguments)
            .envs(
                self.program
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .env(MARK, &mark)
            .stdout(OwnedFd::from(written.try_clone()?))
            .stderr(OwnedFd::from(written))
            // A signal from the terminal is for the gateway, which stops its children in order.
            .process_group(0);
        let guard = command.spawn()?;
        // Closes this process's copies of the other ends of the pipes.
        drop(command);
        let output = output::copy(output.into(), self.program.name, self.last_lines.clone())?;
        self.running = Some(Running {
            guard,
            mark,
            output,
            _gateway_runs: gateway_runs,
        });
        Ok(())
    }

    /// Returns the upstream that the child is.
    pub(crate) fn upstream(&self) -> Upstream {
        self.program.upstream
    }

    /// Restarts the child whenever it ends, until it has ended too often. `has_ended` is called with its name each time, as
    /// soon as it is known.
    pub(crate) async fn keep_running(
        &mut self,
        metrics: &Metrics,
        has_ended: impl Fn(&str),
    ) -> ChildFailure {
        let mut is_first = true;
        let mut short_runs = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let ended = match &mut self.running {
                Some(running) => running.ended(|| has_ended(self.program.title)).await,
                // It could not be started.
                None => Ended::Code(127),
            };
            self.running = None;
            if started.elapsed() > STABLE {
                short_runs = 0;
                pause = FIRST_PAUSE;
            }
            short_runs += 1;
            let is_hopeless = is_first && self.cannot_be_imported(ended);
            is_first = false;
            if short_runs == MAX_SHORT_RUNS || is_hopeless {
                return self.failure(ended, short_runs);
            }
            let title = self.program.title;
            tracing::error!("{title} has ended {ended} and is restarted in {pause:?}");
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
            metrics.upstream_restarted(self.program.upstream);
            if let Err(error) = self.start() {
                tracing::error!(%error, "cannot start {title}");
            }
        }
    }

    /// Returns true if the API has ended because its code cannot be imported, which another start does not change. The exit
    /// code does not say so: it is 0, 1 or 3, depending on the number of processes and on what was wrong.
    fn cannot_be_imported(&self, ended: Ended) -> bool {
        self.program.upstream == Upstream::Api
            && matches!(ended, Ended::Code(0..128))
            && is_about_an_import(&self.last_lines.read())
    }

    fn failure(&self, ended: Ended, times: u32) -> ChildFailure {
        let last_lines = self.last_lines.read();
        let code = match ended {
            Ended::Code(code) => code,
            Ended::Signal(number) => 128 + number,
        };
        let executable = self.program.executable.to_string_lossy();
        ChildFailure {
            title: self.program.title,
            times,
            ended,
            advice: advice(&last_lines, Some(code), &executable),
            last_lines,
        }
    }

    /// Stops the child and the processes that it has started.
    pub(crate) async fn stop(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        running.signal(Signal::TERM);
        let limit = self.grace_period + GUARD_MARGIN;
        if timeout(limit, running.ended(|| {})).await.is_err() {
            tracing::warn!("{} did not end in time", self.program.title);
            running.signal(Signal::KILL);
            running.ended(|| {}).await;
        }
    }
}

impl Running {
    /// Waits until the child has ended, with all of its processes and with the last line in the log. Calls `noticed` before the
    /// last two.
    async fn ended(&mut self, noticed: impl FnOnce()) -> Ended {
        let ended = match self.guard.wait().await {
            Ok(status) => Ended::of(status),
            Err(error) => {
                tracing::error!(%error, "cannot wait for a child");
                Ended::Code(1)
            }
        };
        noticed();
        if matches!(ended, Ended::Signal(_)) {
            // Something has killed the guard, which could not end the others.
            let mark = self.mark.clone();
            let _ = tokio::task::spawn_blocking(move || end_marked(&mark)).await;
        }
        // A process that has closed its environment could still hold the pipe.
        let _ = timeout(OUTPUT_MARGIN, &mut self.output).await;
        ended
    }

    fn signal(&self, signal: Signal) {
        let id = self.guard.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.and_then(Pid::from_raw) {
            // Fails if it has ended.
            let _ = kill_process(id, signal);
        }
    }
}

impl Ended {
    /// Reads the status of a guard, whose exit code contains the signal that ended the program.
    fn of(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code @ 129..=159) => write!(text, "by signal {}", code - 128),
            Self::Code(code) => write!(text, "with exit code {code}"),
            Self::Signal(number) => write!(text, "by signal {number}"),
        }
    }
}

impl fmt::Display for ChildFailure {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            title,
            times,
            ended,
            ..
        } = self;
        match times {
            1 => write!(text, "{title} has ended {ended} at its first start")?,
            _ => write!(
                text,
                "{title} has ended {times} times in a row, the last time {ended}"
            )?,
        }
        if self.last_lines.is_empty() {
            write!(text, "; it has written nothing")?;
        } else {
            write!(text, "; its last lines were:")?;
        }
        for line in &self.last_lines {
            write!(text, "\n  {line}")?;
        }
        if let Some(advice) = &self.advice {
            write!(text, "\n\nhint: {advice}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ChildFailure {}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A child that ends this often in a row, without having been stable, is not restarted.
const MAX_SHORT_RUNS: u32 = 5;

/// After this time, a child counts as stable, and the next restart is fast again.
const STABLE: Duration = Duration::from_secs(60);

/// Extra time after the grace period, in which the guard ends what is left.
const GUARD_MARGIN: Duration = Duration::from_secs(2);

/// Maximum time for the last lines to arrive after the child has ended.
const OUTPUT_MARGIN: Duration = Duration::from_secs(2);
