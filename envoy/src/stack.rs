//! The whole thing standing: Streamlit, the gateway that starts it, and Envoy with the filter in front.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::bootstrap::Bootstrap;
use crate::envoy::{Envoy, EnvoyError};
use crate::gateway::Gateway;
use crate::service::ServiceError;

/// What a stack is made of.
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

/// A running stack. Dropping it ends all of it, Envoy first.
#[derive(Debug)]
pub struct Stack {
    envoy: Envoy,
    gateway: Gateway,
    /// Where Envoy listens.
    pub address: SocketAddr,
    /// Where the gateway listens.
    pub gateway_address: SocketAddr,
}

/// Why a stack does not stand.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// Envoy.
    #[error(transparent)]
    Envoy(#[from] EnvoyError),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] ServiceError),
}

impl Stack {
    /// Starts `app` behind a gateway on a free port, and Envoy by `bootstrap` on `listen`. Configuration and logs are
    /// written to `folder`. Returns as soon as Envoy is ready; the app may still be starting.
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
        let envoy = Envoy::start(&parts.envoy, bootstrap, folder, &["--concurrency", "2"])?;
        Ok(Self {
            envoy,
            gateway,
            address: listen,
            gateway_address,
        })
    }

    /// Fails if one of the processes has ended.
    ///
    /// # Errors
    ///
    /// With the end of the log of the one that has.
    pub fn check(&mut self) -> Result<(), StackError> {
        self.gateway.service.check()?;
        if !matches!(self.envoy.ended(), Ok(None)) {
            return Err(EnvoyError::NotReady {
                log: self.envoy.log(),
            }
            .into());
        }
        Ok(())
    }

    /// Waits until the gateway says that the app answers; `false` if it does not within `limit`.
    pub fn wait_until_ready(&self, limit: Duration) -> bool {
        // Envoy takes the mount off.
        self.gateway.wait_until_ready("", limit)
    }
}

/// Asks an HTTP server for a path, and returns the whole answer as text. With `trusted`, a certificate file, it asks over
/// TLS.
///
/// # Errors
///
/// If there is no answer within two seconds, or the server has another certificate.
pub fn get(address: SocketAddr, path: &str, trusted: Option<&Path>) -> std::io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    match trusted {
        None => ask(stream, address, path),
        Some(certificate) => ask(tls(stream, address, certificate)?, address, path),
    }
}

fn ask(mut stream: impl Read + Write, address: SocketAddr, path: &str) -> std::io::Result<String> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A server may close the connection without closing TLS first; the answer says its own length.
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn tls(
    stream: TcpStream,
    address: SocketAddr,
    certificate: &Path,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(certificate).map_err(std::io::Error::other)?;
    roots.add(trusted).map_err(std::io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), address.ip().into())
        .map_err(std::io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

/// The mount of the shipped configuration.
pub const MOUNT: &str = "/apps/my-app";
