//! Starts a gateway, and a Streamlit that the gateway does not start itself.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fluxlit_support::client::get;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::service::{Service, ServiceError};
use fluxlit_support::wait::wait_until;

/// A running gateway. Dropping it ends the process and the Streamlit that it has started.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub service: Service,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The certificate to trust, if it serves TLS.
    pub certificate: Option<PathBuf>,
}

impl Gateway {
    /// Starts a gateway on a free port with these settings; it starts `app` itself if there is one. Its log is
    /// `gateway.log` in `folder`. Returns as soon as it listens; the app may still be starting.
    ///
    /// # Errors
    ///
    /// If it cannot be started or rejects its settings.
    pub fn start<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        executable: &Path,
        app: Option<&Path>,
        settings: impl IntoIterator<Item = (K, V)>,
        folder: &Path,
    ) -> Result<Self, ServiceError> {
        let mut command = Command::new(executable);
        // It would warn about each of these, after comparing it with all settings.
        let of_tests = |name: &OsString| name.to_string_lossy().starts_with("FLUXLIT_TEST_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| of_tests(name)) {
            command.env_remove(name);
        }
        command
            .arg("run")
            .args(app)
            .env("FLUXLIT_GATEWAY_HOST", "127.0.0.1")
            .env("FLUXLIT_GATEWAY_PORT", "0")
            .envs(settings);
        let mut address = None;
        let log = folder.join("gateway.log");
        let service = Service::start("the gateway", command, &log, |log| {
            address = listening(log);
            address.is_some()
        })?;
        let address = address.ok_or_else(|| ServiceError::Start {
            name: "the gateway",
            source: std::io::Error::other("its log has no address"),
        })?;
        Ok(Self {
            service,
            address,
            certificate: None,
        })
    }

    /// Waits until the gateway reports the app as ready; returns false if it does not within `limit`. `mount` is the
    /// prefix of all paths that the gateway serves.
    pub fn wait_until_ready(&self, mount: &str, limit: Duration) -> bool {
        let path = format!("{mount}/api/readyz");
        wait_until(limit, || {
            get(self.address, &path, self.certificate.as_deref())
                .is_ok_and(|response| response.status == 200)
        })
    }

    /// Uses TLS and trusts this certificate.
    #[must_use]
    pub fn with_certificate(mut self, certificate: PathBuf) -> Self {
        self.certificate = Some(certificate);
        self
    }
}

/// Finds the address that the gateway listens on in its log.
fn listening(log: &str) -> Option<SocketAddr> {
    log.split_once("listening on http")?
        .1
        .trim_start_matches('s')
        .strip_prefix("://")?
        .split_once('\n')?
        .0
        .trim()
        .parse()
        .ok()
}

/// A running Streamlit. Dropping it ends the process.
#[derive(Debug)]
pub struct Streamlit {
    /// The process.
    pub service: Service,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The base path that it is configured with; may be empty.
    pub base: String,
}

impl Streamlit {
    /// Starts `app` on a free port with the base path `base`, and waits until its health check succeeds. Its log is
    /// `streamlit.log` in `folder`.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(
        executable: &Path,
        app: &Path,
        base: &str,
        arguments: &[&str],
        folder: &Path,
    ) -> Result<Self, ServiceError> {
        let port = free_port().map_err(|source| ServiceError::Start {
            name: "Streamlit",
            source,
        })?;
        let address = local(port);
        let mut command = Command::new(executable);
        command
            .arg("run")
            .arg(app)
            .args(["--server.address", "127.0.0.1", "--server.port"])
            .arg(port.to_string())
            .args(["--server.headless", "true"])
            .args(["--browser.gatherUsageStats", "false"])
            .args(["--server.fileWatcherType", "none"])
            .args(["--server.baseUrlPath", base.trim_start_matches('/')])
            .args(arguments);
        let log = folder.join("streamlit.log");
        let health = format!("{base}/_stcore/health");
        let service = Service::start("Streamlit", command, &log, |_| {
            get(address, &health, None).is_ok_and(|response| response.body == b"ok")
        })?;
        Ok(Self {
            service,
            address,
            base: base.to_owned(),
        })
    }

    /// Returns its URL, for the settings of the gateway.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.base)
    }
}
