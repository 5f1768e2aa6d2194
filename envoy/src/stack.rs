//! Starts the whole stack: Streamlit, the gateway that starts it, and Envoy with the filter in front.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxlit_support::envoy::{Envoy, EnvoyError};
use fluxlit_support::service::ServiceError;

use crate::bootstrap::Bootstrap;
use crate::gateway::Gateway;

/// The programs of a stack.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The Envoy executable.
    pub envoy: PathBuf,
    /// The filter.
    pub module: PathBuf,
    /// The gateway's executable.
    pub gateway: PathBuf,
    /// The Streamlit executable.
    pub streamlit: PathBuf,
}

impl Parts {
    /// Returns true if the filter is the dynamic module.
    pub fn is_dynamic_module(&self) -> bool {
        self.module
            .extension()
            .is_some_and(|extension| extension == "so")
    }
}

/// A running stack. Dropping it stops all processes, Envoy first.
#[derive(Debug)]
pub struct Stack {
    envoy: Envoy,
    gateway: Gateway,
    /// The address that Envoy listens on.
    pub address: SocketAddr,
    /// The address that the gateway listens on.
    pub gateway_address: SocketAddr,
}

/// The reason why a stack is not running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// Envoy is not running.
    #[error(transparent)]
    Envoy(#[from] EnvoyError),
    /// The gateway is not running.
    #[error(transparent)]
    Gateway(#[from] ServiceError),
}

impl Stack {
    /// Starts a gateway on a free port, which starts `app`, and Envoy with `bootstrap` on `listen` in front of it.
    /// Configuration and logs are written to `folder`. Returns as soon as Envoy is ready; the app may still be starting.
    ///
    /// # Errors
    ///
    /// If one of the processes cannot be started.
    pub fn start(
        parts: &Parts,
        app: &Path,
        bootstrap: Bootstrap,
        listen: SocketAddr,
        folder: &Path,
    ) -> Result<Self, StackError> {
        let settings = [
            ("FLUXLIT_STREAMLIT_COMMAND", parts.streamlit.as_os_str()),
            ("FLUXLIT_ROOT_PATH", MOUNT.as_ref()),
            ("FLUXLIT_ROOT_PATH_SHAPE", "stripped".as_ref()),
            ("FLUXLIT_TRUST_PROXY", "1".as_ref()),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1,::1".as_ref()),
        ];
        let gateway = Gateway::start(&parts.gateway, Some(app), settings, folder)?;
        let gateway_address = gateway.address;
        let bootstrap = bootstrap
            .listening_on(listen)
            .forwarding_to(gateway_address)
            .with_module(&parts.module);
        let envoy = bootstrap.start(&parts.envoy, folder, &["--concurrency", "2"])?;
        Ok(Self {
            envoy,
            gateway,
            address: listen,
            gateway_address,
        })
    }

    /// Checks that all processes are still running.
    ///
    /// # Errors
    ///
    /// If one of them has ended; the error contains the end of its log.
    pub fn check(&mut self) -> Result<(), StackError> {
        self.gateway.service.check()?;
        if !matches!(self.envoy.ended(), Ok(None)) {
            let log = self.envoy.log();
            return Err(EnvoyError::Ended { log, signal: None }.into());
        }
        Ok(())
    }

    /// Waits until the gateway reports the app as ready; returns false if it does not within `limit`.
    pub fn wait_until_ready(&self, limit: Duration) -> bool {
        // The gateway expects paths without the mount, which Envoy removes.
        self.gateway.wait_until_ready("", limit)
    }
}

/// The mount of the shipped configuration.
pub const MOUNT: &str = "/apps/my-app";
