//! A running gateway, and a running Streamlit of one's own behind it.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{free_port, wait_until};
use crate::service::{Service, ServiceError};
use crate::stack::get;

/// A running gateway. Dropping it ends it, and the Streamlit that it has started.
#[derive(Debug)]
pub struct Gateway {
    /// Its process.
    pub service: Service,
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate to trust, if it speaks TLS.
    pub certificate: Option<PathBuf>,
}

impl Gateway {
    /// Starts a gateway on a free port, with these settings and with an app to start, if one is named. Its log is
    /// `gateway.log` in `folder`. Returns as soon as it listens; the app may still be starting.
    ///
    /// # Errors
    ///
    /// If it cannot be started or refuses its settings.
    pub fn start<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        executable: &Path,
        app: Option<&Path>,
        settings: impl IntoIterator<Item = (K, V)>,
        folder: &Path,
    ) -> Result<Self, ServiceError> {
        let mut command = Command::new(executable);
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
            what: "the gateway",
            source: std::io::Error::other("it does not say where it listens"),
        })?;
        Ok(Self {
            service,
            address,
            certificate: None,
        })
    }

    /// Waits until the gateway says that the app answers; `false` if it does not within `limit`. `mount` is what stands
    /// in front of every path that it is asked for.
    pub fn wait_until_ready(&self, mount: &str, limit: Duration) -> bool {
        let path = format!("{mount}/api/readyz");
        wait_until(limit, || {
            get(self.address, &path, self.certificate.as_deref())
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })
    }

    /// Speaks to it over TLS, trusting this certificate.
    #[must_use]
    pub fn with_certificate(mut self, certificate: PathBuf) -> Self {
        self.certificate = Some(certificate);
        self
    }
}

/// Finds the line that says where the gateway listens.
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

/// A running Streamlit. Dropping it ends it.
#[derive(Debug)]
pub struct Streamlit {
    /// Its process.
    pub service: Service,
    /// Where it listens.
    pub address: SocketAddr,
    /// The path it is told to be published under; empty if none.
    pub base: String,
}

impl Streamlit {
    /// Starts `app` on a free port, published under `base`, and waits until it answers its health check. Its log is
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
            what: "Streamlit",
            source,
        })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
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
            get(address, &health, None).is_ok_and(|answer| answer.ends_with("\r\n\r\nok"))
        })?;
        Ok(Self {
            service,
            address,
            base: base.to_owned(),
        })
    }

    /// Its address as the gateway is told it.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.base)
    }
}
