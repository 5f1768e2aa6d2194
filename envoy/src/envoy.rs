//! A running Envoy.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bootstrap::Bootstrap;
use crate::process::{Process, free_port, wait_until};

/// A running Envoy. Dropping it ends it.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    log: PathBuf,
}

/// Why Envoy does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvoyError {
    /// It ended, or did not become ready; the text is the end of its log.
    #[error("Envoy did not become ready; its log ends with\n{log}")]
    NotReady {
        /// The end of its log.
        log: String,
    },
    /// The executable or a file.
    #[error("cannot run Envoy at {executable}", executable = executable.display())]
    Run {
        /// The executable.
        executable: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Envoy {
    /// Starts the executable with a configuration, and waits until it is ready. Configuration and log are written to
    /// `folder`.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or refuses the configuration.
    pub fn start(
        executable: &Path,
        bootstrap: Bootstrap,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Self, EnvoyError> {
        let run = |source| EnvoyError::Run {
            executable: executable.to_owned(),
            source,
        };
        let admin = admin_address(&bootstrap).map_err(run)?;
        let config = folder.join("envoy.json");
        let log = folder.join("envoy.log");
        let text = bootstrap.administered_on(admin).to_json();
        std::fs::write(&config, text).map_err(run)?;
        let mut command = Command::new(executable);
        command
            .arg("-c")
            .arg(&config)
            .args([
                "--disable-hot-restart",
                "--log-level",
                "warning",
                "--log-path",
            ])
            .arg(&log)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(folder.join("envoy.err")).map_err(run)?);
        let process = Process::start(command).map_err(run)?;
        let mut envoy = Self {
            process,
            admin,
            log,
        };
        let is_ready = wait_until(START_LIMIT, || {
            is_live(admin) || !matches!(envoy.process.ended(), Ok(None))
        });
        if is_ready && matches!(envoy.process.ended(), Ok(None)) {
            Ok(envoy)
        } else {
            Err(EnvoyError::NotReady {
                log: envoy.end_of_log(),
            })
        }
    }

    /// Lets the executable judge a configuration without serving it (`--mode validate`): whether it is accepted, and
    /// what Envoy said.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn validate(
        executable: &Path,
        bootstrap: &Bootstrap,
        folder: &Path,
    ) -> Result<(bool, String), EnvoyError> {
        let run = |source| EnvoyError::Run {
            executable: executable.to_owned(),
            source,
        };
        let config = folder.join("validate.json");
        std::fs::write(&config, bootstrap.to_json()).map_err(run)?;
        let output = Command::new(executable)
            .arg("-c")
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

    /// How the process ended, if it has.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn ended(&mut self) -> std::io::Result<Option<std::process::ExitStatus>> {
        self.process.ended()
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where the admin interface is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What Envoy has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// A free port that is none of the listeners', which are not open yet.
fn admin_address(bootstrap: &Bootstrap) -> std::io::Result<SocketAddr> {
    let text = bootstrap.to_json();
    loop {
        let port = free_port()?;
        if !text.contains(&format!("\"port_value\":{port}}}")) {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
    }
}

fn is_live(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&admin, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// How long Envoy may take to compile the filter and to start.
const START_LIMIT: Duration = Duration::from_secs(60);
