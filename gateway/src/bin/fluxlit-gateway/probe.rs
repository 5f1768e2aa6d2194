//! Asks a gateway whether it is ready: `fluxlit-gateway probe`, for the health checks of containers.
//!
//! It is one GET request over HTTP/1.1, and only the status counts. A minimal image has no other program for it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use url::{Host, Url};

use crate::exit::{Exit, Unusable};
use crate::output;
use crate::target::{self, Target};

/// Ask a gateway whether it is ready; exit 0 if it is, 1 if it is not
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Request this URL [default: the readiness of a gateway on this machine with the settings of this environment]
    #[arg(long)]
    url: Option<String>,
    /// Connect to this address, whatever the host of the URL is, such as 127.0.0.1:8443
    #[arg(long, value_name = "ADDRESS")]
    connect: Option<SocketAddr>,
    /// Trust only the certificates in this PEM file, instead of those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Wait for the response for at most this number of seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = read_timeout)]
    timeout: f64,
    /// Print nothing if the gateway is ready
    #[arg(long, short)]
    quiet: bool,
}

/// For a URL of something else.
const READYZ: &str = "; readiness is at /api/readyz below the mount, such as http://127.0.0.1:8000/apps/my-app/api/readyz";

/// What to request, and from where.
struct Probe {
    url: Url,
    address: Option<SocketAddr>,
    ca: Option<PathBuf>,
}

/// Sends the request.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let probe = Probe::new(arguments).map_err(Unusable)?;
    let deadline = Instant::now() + Duration::from_secs_f64(arguments.timeout);
    let waiting = (!arguments.quiet).then(|| Waiting::start(&probe.url));
    let status = probe.status(deadline);
    drop(waiting);
    let status = status.with_context(|| format!("{} is not ready", probe.url))?;
    ensure!(
        (200..300).contains(&status),
        "{} is not ready: the status is {status}{}",
        probe.url,
        match status {
            300..500 if !probe.url.path().ends_with("/readyz") => READYZ,
            _ => "",
        }
    );
    if !arguments.quiet {
        output::write(format!("{} is ready\n", probe.url))?;
    }
    Ok(Exit::Done)
}

/// Says once on standard error that there is no response yet, unless it ends before.
struct Waiting {
    /// Nothing is sent. The thread ends when this does.
    ended: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    fn start(url: &Url) -> Self {
        let (ended, is_ended) = channel();
        let line = format!("waiting for {url} ...");
        let wait = move || {
            if is_ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{line}");
            }
        };
        Self {
            ended: Some(ended),
            // Without a thread there is only no message.
            thread: std::thread::Builder::new().spawn(wait).ok(),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(thread) = self.thread.take() {
            // It fails only if standard error is closed.
            let _ = thread.join();
        }
    }
}

impl Probe {
    fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let (url, address) = match &arguments.url {
            Some(url) => (url.clone(), None),
            None => default_target()?,
        };
        let url = Url::parse(&url).with_context(|| format!("--url `{url}` is not a URL"))?;
        ensure!(
            matches!(url.scheme(), "http" | "https") && url.username().is_empty(),
            "--url `{url}` is not an http or https URL without a user, such as http://127.0.0.1:8000/api/readyz"
        );
        ensure!(
            url.scheme() == "https" || arguments.ca.is_none(),
            "--ca is only of use for an https URL"
        );
        if let Some(ca) = &arguments.ca {
            std::fs::metadata(ca).with_context(|| format!("cannot read {}", ca.display()))?;
        }
        Ok(Self {
            url,
            address: arguments.connect.or(address),
            ca: arguments.ca.clone(),
        })
    }

    /// Sends the request, and returns the status of the response.
    fn status(&self, deadline: Instant) -> anyhow::Result<u16> {
        let host = self.url.host().context("the URL has no host")?;
        let port = self.url.port_or_known_default().unwrap_or(80);
        let addresses: Vec<SocketAddr> = match (self.address, &host) {
            (Some(address), _) => vec![address],
            (None, Host::Ipv4(address)) => vec![(*address, port).into()],
            (None, Host::Ipv6(address)) => vec![(*address, port).into()],
            (None, Host::Domain(name)) => (*name, port)
                .to_socket_addrs()
                .with_context(|| format!("`{name}` cannot be resolved"))?
                .collect(),
        };
        let mut stream = connect(&addresses, deadline)?;
        let request = self.request(&host);
        if self.url.scheme() == "http" {
            return exchange(&mut stream, &request);
        }
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.to_owned())?,
            Host::Ipv4(address) => ServerName::from(IpAddr::V4(address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::V6(address)),
        };
        let mut session = rustls::ClientConnection::new(tls(self.ca.as_deref())?, name)?;
        exchange(
            &mut rustls::Stream::new(&mut session, &mut stream),
            &request,
        )
    }

    fn request(&self, host: &Host<&str>) -> String {
        let port = self.url.port().map(|port| format!(":{port}"));
        let query = self.url.query().map(|query| format!("?{query}"));
        format!(
            "GET {}{} HTTP/1.1\r\nHost: {host}{}\r\nUser-Agent: fluxlit-gateway-probe/{}\r\nConnection: close\r\n\r\n",
            self.url.path(),
            query.unwrap_or_default(),
            port.unwrap_or_default(),
            env!("CARGO_PKG_VERSION"),
        )
    }
}

/// Returns the readiness URL of a gateway with the settings of this environment, and the address to connect to.
fn default_target() -> anyhow::Result<(String, Option<SocketAddr>)> {
    let mut target = Target::default();
    target.settings_only = true;
    // Any upstream will do, because it is not used.
    target.streamlit_upstream = Some("http://127.0.0.1:8501".to_owned());
    let (settings, _) = target::read_settings(&target)
        .context("the settings of this environment cannot be read, and --url is not given")?;
    let mut listen = settings.listen;
    ensure!(
        listen.port() != 0,
        "FLUXLIT_GATEWAY_PORT is 0, so the port is not known: give --url"
    );
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        });
    }
    let path = format!(
        "{}{}/readyz",
        settings.policy.mount(),
        settings.api.sub_app.path()
    );
    if settings.tls.is_none() {
        return Ok((format!("http://{listen}{path}"), None));
    }
    // Its certificate is for the public name.
    let Some(base) = settings.policy.public_base_url() else {
        bail!(
            "the gateway terminates TLS, and FLUXLIT_PUBLIC_BASE_URL does not say for which name: give --url with the name in \
             its certificate, and --connect {listen}"
        );
    };
    let mut url = Url::parse(&base).context("FLUXLIT_PUBLIC_BASE_URL is not a URL")?;
    url.set_path(&path);
    Ok((url.into(), Some(listen)))
}

/// Connects to the first address that accepts a connection.
fn connect(addresses: &[SocketAddr], deadline: Instant) -> anyhow::Result<TcpStream> {
    let mut failure = None;
    for address in addresses {
        let left = left(deadline)?;
        match TcpStream::connect_timeout(address, left) {
            Ok(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))?;
                return Ok(stream);
            }
            Err(error) => {
                failure = Some(
                    anyhow::Error::from(error).context(format!("cannot connect to {address}")),
                );
            }
        }
    }
    Err(failure.unwrap_or_else(|| anyhow::anyhow!("the host has no address")))
}

fn left(deadline: Instant) -> anyhow::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    ensure!(!left.is_zero(), "there was no response in time");
    Ok(left)
}

/// Sends the request and reads the status line.
fn exchange(stream: &mut (impl Read + Write), request: &str) -> anyhow::Result<u16> {
    let late = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            anyhow::anyhow!("there was no response in time")
        }
        _ => anyhow::Error::from(error),
    };
    stream.write_all(request.as_bytes()).map_err(late)?;
    let mut start = [0; STATUS_LINE.len() + 4];
    stream.read_exact(&mut start).map_err(late)?;
    let status = std::str::from_utf8(&start)
        .ok()
        .filter(|start| start.starts_with("HTTP/1."))
        .and_then(|start| start.get(STATUS_LINE.len()..)?.trim_end().parse().ok());
    status.context("the response is not HTTP")
}

fn tls(ca: Option<&Path>) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = ca {
        let certificates = CertificateDer::pem_file_iter(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        for certificate in certificates {
            roots.add(
                certificate.with_context(|| format!("{} is not a PEM file", path.display()))?,
            )?;
        }
        ensure!(!roots.is_empty(), "{} has no certificate", path.display());
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        ensure!(
            !roots.is_empty(),
            "the system has no certificates to verify the gateway's with: give --ca"
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn read_timeout(text: &str) -> Result<f64, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds
        .filter(|seconds| (0.1..=600.0).contains(seconds))
        .ok_or_else(|| "expected a number of seconds from 0.1 to 600".to_owned())
}

/// After this time without a response, it says that it waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// What comes before the status in a response.
const STATUS_LINE: &str = "HTTP/1.1 ";

const EXAMPLES: &str = "\
Examples:
  fluxlit-gateway probe
  fluxlit-gateway probe --url http://127.0.0.1:8000/apps/my-app/api/readyz --timeout 2
  fluxlit-gateway probe --url https://portal.example.com/api/readyz --connect 127.0.0.1:8443 --ca ca.pem

Exit codes: 0 if it is ready, 1 if it is not, 2 if the usage or a setting is wrong.";
