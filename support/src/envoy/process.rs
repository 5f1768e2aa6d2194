//! Starts an Envoy process, waits until it serves, and ends it.
//!
//! Envoy chooses the port of its admin interface itself: a port that was free a moment ago may be taken when it listens.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{Admin, log};
use crate::process::Process;
use crate::service::end_of;
use crate::wait::wait_for;

/// A running Envoy. Dropping it ends the process.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    folder: PathBuf,
    admin: Admin,
}

/// The reason why Envoy is not running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvoyError {
    /// It exited, as it does when it rejects the configuration.
    #[error("Envoy ended; its log ends with\n{end}", end = end_of(log))]
    Ended {
        /// Its log.
        log: String,
        /// The signal that ended it, if one did.
        signal: Option<i32>,
    },
    /// It did not become ready in time.
    #[error("Envoy did not become ready; its log ends with\n{end}", end = end_of(log))]
    NotReady {
        /// Its log.
        log: String,
    },
    /// The executable or a file cannot be used.
    #[error("cannot run Envoy at {executable}", executable = executable.display())]
    Run {
        /// The executable.
        executable: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

impl Envoy {
    /// Starts the executable with a bootstrap, which is JSON and has its admin interface on port 0, and waits until it is
    /// ready. Bootstrap and log are written to `folder`. `arguments` are added to the command line.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or rejects the bootstrap.
    pub fn start(
        executable: &Path,
        bootstrap: &str,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Self, EnvoyError> {
        let run = |source| EnvoyError::Run {
            executable: executable.to_owned(),
            source,
        };
        let config = folder.join("envoy.json");
        let admin_path = folder.join("envoy.admin");
        std::fs::write(&config, bootstrap).map_err(run)?;
        // A file of an earlier Envoy would contain the port of that one.
        std::fs::write(&admin_path, "").map_err(run)?;
        let mut command = Command::new(executable);
        command
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin_path)
            .args(["--disable-hot-restart", "--log-level", "warning"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join(OUTPUT)).map_err(run)?)
            // Unlike a log file that Envoy opens itself, this one is never buffered.
            .stderr(File::create(folder.join(LOG)).map_err(run)?);
        let mut process = Process::start(command).map_err(run)?;
        let mut signal = None;
        let admin = wait_for(START_LIMIT, || {
            let address = std::fs::read_to_string(&admin_path).unwrap_or_default();
            if let Ok(address) = address.trim().parse() {
                let admin = Admin { address };
                if admin.is_ready() {
                    return Some(Some(admin));
                }
            }
            match process.ended() {
                Ok(None) => None,
                status => {
                    signal = status.ok().flatten().and_then(|status| status.signal());
                    Some(None)
                }
            }
        });
        let log = || read_log(folder).replace(log::BEGIN, "");
        match admin {
            Some(Some(admin)) => Ok(Self {
                process,
                folder: folder.to_owned(),
                admin,
            }),
            Some(None) => Err(EnvoyError::Ended { log: log(), signal }),
            None => Err(EnvoyError::NotReady { log: log() }),
        }
    }

    /// Runs the executable with `--mode validate`; returns whether it accepts the bootstrap, and its output.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn validate(
        executable: &Path,
        bootstrap: &str,
        folder: &Path,
    ) -> Result<(bool, String), EnvoyError> {
        let run = |source| EnvoyError::Run {
            executable: executable.to_owned(),
            source,
        };
        let config = folder.join("validate.json");
        std::fs::write(&config, bootstrap).map_err(run)?;
        let output = Command::new(executable)
            .arg("--config-path")
            .arg(&config)
            .args(["--mode", "validate", "--log-level", "warning"])
            .output()
            .map_err(run)?;
        let text = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        ))
    }

    /// Returns the admin interface.
    pub fn admin(&self) -> Admin {
        self.admin
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the exit status if the process has ended.
    ///
    /// # Errors
    ///
    /// If the status cannot be read.
    pub fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        self.marked_log().replace(log::BEGIN, "")
    }

    /// Returns what Envoy has written to stdout so far, which is the access log of the shipped files.
    ///
    /// Envoy writes it every ten seconds, or as `--file-flush-interval-msec` says.
    pub fn output(&self) -> String {
        read(&self.folder.join(OUTPUT))
    }

    /// Returns the log so far, with the marks of [`log::FORMAT`] if Envoy was started with it.
    pub fn marked_log(&self) -> String {
        read_log(&self.folder)
    }
}

fn read_log(folder: &Path) -> String {
    read(&folder.join(LOG))
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

const LOG: &str = "envoy.log";
const OUTPUT: &str = "envoy.out";

/// The maximum time for Envoy to compile the filters and to start.
const START_LIMIT: Duration = Duration::from_secs(120);
