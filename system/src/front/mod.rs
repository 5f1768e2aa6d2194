//! Starts a proxy with a configuration text, and checks the text with the proxy's own program.
//!
//! Tests run as nobody's service: before a start, each module replaces the paths of logs. Nothing else is
//! changed, and a check reads the text as it is.

mod apache;
mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod traefik;
mod varnish;

use std::path::{Path, PathBuf};
use std::process::Command;

use fluxlit_support::envoy::Envoy;
use fluxlit_support::service::{Service, end_of};
use fluxlit_support::wait::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::programs::named;

pub use varnish::{VARNISH_PARAMETERS, Varnish};

/// A proxy program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Apache httpd.
    Apache,
    /// Caddy.
    Caddy,
    /// Envoy.
    Envoy,
    /// The HAProxy of the distribution.
    Haproxy,
    /// A recent HAProxy.
    HaproxyRecent,
    /// The nginx of the distribution.
    Nginx,
    /// A recent nginx.
    NginxRecent,
    /// Traefik.
    Traefik,
}

/// How a proxy is made to use a changed configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// As its documentation advises: open connections are left to the old configuration.
    Graceful,
    /// By a restart.
    Restart,
}

/// A running proxy. Dropping it ends the process.
#[derive(Debug)]
pub struct Front {
    program: Program,
    process: Process,
    /// The configuration file.
    file: PathBuf,
}

#[derive(Debug)]
enum Process {
    Envoy(Box<Envoy>),
    Other(Service),
}

impl Program {
    /// Every program.
    pub const ALL: [Self; 8] = [
        Self::Apache,
        Self::Caddy,
        Self::Envoy,
        Self::Haproxy,
        Self::HaproxyRecent,
        Self::Nginx,
        Self::NginxRecent,
        Self::Traefik,
    ];

    /// Returns the name for `fluxlit-gateway config --for`.
    pub fn front(self) -> &'static str {
        match self {
            Self::Apache => "apache",
            Self::Caddy => "caddy",
            Self::Envoy => "envoy",
            Self::Haproxy | Self::HaproxyRecent => "haproxy",
            Self::Nginx | Self::NginxRecent => "nginx",
            Self::Traefik => "traefik",
        }
    }

    /// Returns the name of a configuration file; Envoy and Traefik go by its extension.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy.yaml",
            Self::Traefik => "traefik.yml",
            Self::Apache
            | Self::Caddy
            | Self::Haproxy
            | Self::HaproxyRecent
            | Self::Nginx
            | Self::NginxRecent => "front.conf",
        }
    }

    /// Checks a configuration file with the program itself. `None` if the program has no check: Traefik reports errors in its
    /// log when it runs, see [`Front::start`].
    ///
    /// # Errors
    ///
    /// Returns the output of the program if it rejects the file.
    ///
    /// # Panics
    ///
    /// If the program cannot be run.
    pub fn check(self, file: &Path) -> Option<Result<(), String>> {
        let executable = self.executable();
        let mut command = match self {
            Self::Apache => apache::check(&executable, file),
            Self::Caddy => caddy::check(&executable, file),
            Self::Envoy => envoy::check(&executable, file),
            Self::Haproxy | Self::HaproxyRecent => haproxy::check(&executable, file),
            Self::Nginx | Self::NginxRecent => nginx::check(&executable, file),
            Self::Traefik => return None,
        };
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        Some(if output.status.success() {
            Ok(())
        } else {
            Err(end_of(&text))
        })
    }

    /// Returns what an operator does for [`Front::reload`], as Markdown; `None` if that is not supported.
    pub fn reload_command(self, how: Reload) -> Option<&'static str> {
        match (self, how) {
            (Self::Apache, Reload::Graceful) => Some("`apachectl graceful`"),
            (Self::Apache, Reload::Restart) => Some("`apachectl restart`"),
            (Self::Caddy, Reload::Graceful) => Some("`caddy reload`"),
            (Self::Haproxy | Self::HaproxyRecent, Reload::Graceful) => {
                Some("`systemctl reload haproxy`")
            }
            (Self::Nginx | Self::NginxRecent, Reload::Graceful) => Some("`nginx -s reload`"),
            (Self::Traefik, Reload::Graceful) => Some("a change of `traefik-dynamic.yml`"),
            _ => None,
        }
    }

    fn executable(self) -> PathBuf {
        named(match self {
            Self::Apache => "FLUXLIT_TEST_APACHE",
            Self::Caddy => "FLUXLIT_TEST_CADDY",
            Self::Envoy => "FLUXLIT_TEST_ENVOY",
            Self::Haproxy => "FLUXLIT_TEST_HAPROXY",
            Self::HaproxyRecent => "FLUXLIT_TEST_HAPROXY_RECENT",
            Self::Nginx => "FLUXLIT_TEST_NGINX",
            Self::NginxRecent => "FLUXLIT_TEST_NGINX_RECENT",
            Self::Traefik => "FLUXLIT_TEST_TRAEFIK",
        })
    }
}

impl Front {
    /// Starts a program with the configuration file in `folder`, and waits until `is_ready` returns true: that requests get
    /// through it. The log is `front.log` in the same folder.
    ///
    /// # Errors
    ///
    /// If it does not start or is not ready within a minute, with the end of its log.
    pub fn start(
        program: Program,
        file: &Path,
        is_ready: impl FnMut() -> bool,
    ) -> Result<Self, String> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let front = Self {
            program,
            process: start(program, file, folder, &text)?,
            file: file.to_owned(),
        };
        if !wait_until(READY_LIMIT, is_ready) {
            return Err(format!(
                "{program:?} lets no request through; its log ends with\n{}",
                end_of(&front.log())
            ));
        }
        let errors = front.errors();
        if errors.is_empty() {
            Ok(front)
        } else {
            Err(format!("{program:?} reports\n{errors}"))
        }
    }

    /// Makes the program use its configuration files, which have changed. Returns before it does.
    ///
    /// # Errors
    ///
    /// If the program cannot be told, or is none that [`Program::reload_command`] knows.
    pub fn reload(&self, how: Reload) -> Result<(), String> {
        let Process::Other(service) = &self.process else {
            return Err(format!("{:?} does not read its file again", self.program));
        };
        match (self.program, how) {
            (Program::Apache, Reload::Graceful) => signal(service, Signal::USR1),
            (Program::Apache, Reload::Restart) => signal(service, Signal::HUP),
            (Program::Caddy, Reload::Graceful) => {
                caddy::reload(&self.program.executable(), &self.file)
            }
            (Program::Haproxy | Program::HaproxyRecent, Reload::Graceful) => {
                signal(service, Signal::USR2)
            }
            (Program::Nginx | Program::NginxRecent, Reload::Graceful) => {
                signal(service, Signal::HUP)
            }
            // It watches the file.
            (Program::Traefik, Reload::Graceful) => Ok(()),
            (program, Reload::Restart) | (program @ Program::Envoy, Reload::Graceful) => {
                Err(format!("{program:?}: {how:?} is not supported"))
            }
        }
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        match &self.process {
            Process::Envoy(envoy) => envoy.log(),
            Process::Other(service) => service.log(),
        }
    }

    /// Returns the lines in which Traefik, which has no check, reports an error in its configuration so far. Empty for other
    /// programs.
    pub fn errors(&self) -> String {
        if self.program != Program::Traefik {
            return String::new();
        }
        let log = self.log();
        let errors: Vec<&str> = log.lines().filter(|line| line.contains(" ERR ")).collect();
        errors.join("\n")
    }
}

fn start(program: Program, file: &Path, folder: &Path, text: &str) -> Result<Process, String> {
    let executable = program.executable();
    if program == Program::Envoy {
        let envoy = envoy::start(&executable, folder, text)?;
        return Ok(Process::Envoy(Box::new(envoy)));
    }
    let (text, command): (String, Command) = match program {
        Program::Apache => (apache::prepare(text), apache::run(&executable, file)),
        Program::Caddy => (
            caddy::prepare(text, folder),
            caddy::run(&executable, file, folder),
        ),
        Program::Haproxy | Program::HaproxyRecent => {
            (text.to_owned(), haproxy::run(&executable, file))
        }
        Program::Nginx | Program::NginxRecent => {
            (text.to_owned(), nginx::run(&executable, file, folder))
        }
        Program::Traefik | Program::Envoy => {
            (traefik::prepare(text), traefik::run(&executable, file))
        }
    };
    std::fs::write(file, text).map_err(|error| error.to_string())?;
    // `Front::start` waits until requests get through.
    Service::start(program.front(), command, &folder.join("front.log"), |_| {
        true
    })
    .map(Process::Other)
    .map_err(|error| error.to_string())
}

/// Sends a signal to the process itself, not to its workers.
fn signal(service: &Service, signal: Signal) -> Result<(), String> {
    let id = i32::try_from(service.id()).ok().and_then(Pid::from_raw);
    let id = id.ok_or("no process id")?;
    kill_process(id, signal).map_err(|error| error.to_string())
}

/// Replaces what occurs once in a configuration.
///
/// # Panics
///
/// If it does not occur exactly once.
fn replace_once(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
    text.replacen(from, to, 1)
}

/// The maximum time until requests get through.
const READY_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
