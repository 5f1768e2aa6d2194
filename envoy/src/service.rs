//! A program that serves: started, with a log, and waited for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::{Process, wait_until};

/// A running program with a log. Dropping it ends it.
#[derive(Debug)]
pub struct Service {
    what: &'static str,
    process: Process,
    log: PathBuf,
}

/// Why a program does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It ended, or did not become ready; the text is the end of its log.
    #[error("{what} does not run; its log ends with\n{log}")]
    NotReady {
        /// The program.
        what: &'static str,
        /// The end of its log.
        log: String,
    },
    /// The executable or a file.
    #[error("cannot start {what}")]
    Start {
        /// The program.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl Service {
    /// Starts a program that writes to `log`, and waits until `is_ready`, which is told the log so far.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends, or is not ready within a minute.
    pub fn start(
        what: &'static str,
        mut command: Command,
        log: &Path,
        mut is_ready: impl FnMut(&str) -> bool,
    ) -> Result<Self, ServiceError> {
        let start = |source| ServiceError::Start { what, source };
        let out = std::fs::File::create(log).map_err(start)?;
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(start)?)
            .stderr(out);
        let mut service = Self {
            what,
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

    /// Fails if the program has ended.
    ///
    /// # Errors
    ///
    /// With the end of its log.
    pub fn check(&mut self) -> Result<(), ServiceError> {
        match self.process.ended() {
            Ok(None) => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How the process ended, if it has.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn ended(&mut self) -> std::io::Result<Option<std::process::ExitStatus>> {
        self.process.ended()
    }

    /// What the program has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn failure(&self) -> ServiceError {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        ServiceError::NotReady {
            what: self.what,
            log: lines[lines.len().saturating_sub(12)..].join("\n"),
        }
    }
}

/// How long a program may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(60);
