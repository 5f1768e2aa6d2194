//! The whole thing standing: Streamlit, the gateway that starts it, and Envoy with the filter in front.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::bootstrap::Bootstrap;
use crate::envoy::{Envoy, EnvoyError};
use crate::process::{Process, free_port, wait_until};

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
    gateway: Process,
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
    /// The gateway; the text is the end of its log.
    #[error("the gateway ended; its log ends with\n{log}")]
    Gateway {
        /// The end of its log.
        log: String,
    },
    /// Files and processes.
    #[error("cannot start {what}")]
    Start {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
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
        let gateway_address = local(free_port().map_err(|source| StackError::Start {
            what: "the gateway",
            source,
        })?);
        let gateway = start_gateway(parts, app, gateway_address, folder)?;
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
    pub fn check(&mut self, folder: &Path) -> Result<(), StackError> {
        if !matches!(self.gateway.ended(), Ok(None)) {
            return Err(StackError::Gateway {
                log: end_of(&folder.join("gateway.log")),
            });
        }
        if !matches!(self.envoy.ended(), Ok(None)) {
            return Err(EnvoyError::NotReady {
                log: self.envoy.log(),
            }
            .into());
        }
        Ok(())
    }

    /// Waits until the gateway says that the app answers; `false` if it does not within `limit`.
    pub fn wait_until_ready(&mut self, limit: Duration) -> bool {
        wait_until(limit, || {
            get(self.gateway_address, "/api/readyz", None)
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })
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

fn start_gateway(
    parts: &Parts,
    app: &Path,
    address: SocketAddr,
    folder: &Path,
) -> Result<Process, StackError> {
    let start = |source| StackError::Start {
        what: "the gateway",
        source,
    };
    let log = std::fs::File::create(folder.join("gateway.log")).map_err(start)?;
    let mut command = Command::new(&parts.gateway);
    command
        .arg("run")
        .arg(app)
        .env("FLUXLIT_GATEWAY_HOST", address.ip().to_string())
        .env("FLUXLIT_GATEWAY_PORT", address.port().to_string())
        .env(
            "FLUXLIT_STREAMLIT_COMMAND",
            OsString::from(&parts.streamlit),
        )
        .env("FLUXLIT_ROOT_PATH", MOUNT)
        .env("FLUXLIT_ROOT_PATH_SHAPE", "stripped")
        .env("FLUXLIT_TRUST_PROXY", "1")
        .env("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    Process::start(command).map_err(start)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn end_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// The mount of the shipped configuration.
pub const MOUNT: &str = "/apps/my-app";
