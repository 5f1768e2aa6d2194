//! Starts a proxy with a configuration text, and checks the text with the proxy's own program.
//!
//! Tests run as nobody's service: before a start, each module replaces the paths of logs and temporary files. Nothing else is
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
    /// HAProxy.
    Haproxy,
    /// The nginx of the distribution.
    Nginx,
    /// A recent nginx.
    NginxRecent,
    /// Traefik.
    Traefik,
}

/// A running proxy. Dropping it ends the process.
#[derive(Debug)]
pub struct Front {
    program: Program,
    process: Process,
}

#[derive(Debug)]
enum Process {
    Envoy(Box<Envoy>),
    Other(Service),
}

impl Program {
    /// Every program.
    pub const ALL: [Self; 7] = [
        Self::Apache,
        Self::Caddy,
        Self::Envoy,
        Self::Haproxy,
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
            Self::Haproxy => "haproxy",
            Self::Nginx | Self::NginxRecent => "nginx",
            Self::Traefik => "traefik",
        }
    }

    /// Returns the name of a configuration file; Envoy and Traefik go by its extension.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy.yaml",
            Self::Traefik => "traefik.yml",
            Self::Apache | Self::Caddy | Self::Haproxy | Self::Nginx | Self::NginxRecent => {
                "front.conf"
            }
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
            Self::Haproxy => haproxy::check(&executable, file),
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

    fn executable(self) -> PathBuf {
        named(match self {
            Self::Apache => "FLUXLIT_TEST_APACHE",
            Self::Caddy => "FLUXLIT_TEST_CADDY",
            Self::Envoy => "FLUXLIT_TEST_ENVOY",
            Self::Haproxy => "FLUXLIT_TEST_HAPROXY",
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
        Program::Apache => (
            apache::prepare(text, folder),
            apache::run(&executable, file),
        ),
        Program::Caddy => (caddy::prepare(text), caddy::run(&executable, file, folder)),
        Program::Haproxy => (text.to_owned(), haproxy::run(&executable, file)),
        Program::Nginx | Program::NginxRecent => {
            (nginx::prepare(text), nginx::run(&executable, file, folder))
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
