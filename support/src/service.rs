//! Starts a server program, writes its log to a file, and waits until it is ready.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::process::Process;
use crate::wait::wait_until;

/// A running program with a log file. Dropping it ends the process.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    process: Process,
    log: PathBuf,
}

/// The reason why a program is not running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It ended, or did not become ready in time.
    #[error("{name} is not running; its log ends with\n{log}")]
    NotReady {
        /// The program.
        name: &'static str,
        /// The end of its log.
        log: String,
    },
    /// The executable or a file cannot be used.
    #[error("cannot start {name}")]
    Start {
        /// The program.
        name: &'static str,
        /// The reason.
        source: std::io::Error,
    },
}

impl Service {
    /// Starts a program that writes to `log`, and waits until `is_ready` returns true. `is_ready` gets the log so far.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends, or is not ready within a minute.
    pub fn start(
        name: &'static str,
        mut command: Command,
        log: &Path,
        mut is_ready: impl FnMut(&str) -> bool,
    ) -> Result<Self, ServiceError> {
        let start = |source| ServiceError::Start { name, source };
        let out = std::fs::File::create(log).map_err(start)?;
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(start)?)
            .stderr(out);
        let mut service = Self {
            name,
            process: Process::start(command).map_err(start)?,
            log: log.to_owned(),
        };
        let is_ready = wait_until(START_LIMIT, || {
            is_ready(&service.log()) || service.check().is_err()
        });
        service.check()?;
        if is_ready {
            Ok(service)
        } else {
            Err(service.failure())
        }
    }

    /// Checks that the program is still running.
    ///
    /// # Errors
    ///
    /// If it has ended; the error contains the end of its log.
    pub fn check(&mut self) -> Result<(), ServiceError> {
        match self.process.ended() {
            Ok(None) => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the exit status if the program has ended.
    ///
    /// # Errors
    ///
    /// If the status cannot be read.
    pub fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn failure(&self) -> ServiceError {
        ServiceError::NotReady {
            name: self.name,
            log: end_of(&self.log()),
        }
    }
}

/// Returns the last lines of a log.
pub fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines
        .get(lines.len().saturating_sub(LOG_LINES)..)
        .unwrap_or_default()
        .join("\n")
}

/// The number of lines of a log that an error quotes.
const LOG_LINES: usize = 12;

/// The maximum time for a program to start.
const START_LIMIT: Duration = Duration::from_secs(60);
