//! Configures the servers whose cost is counted: the gateway, and nginx with similar work.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use fluxlit_envoy::MOUNT;
use fluxlit_support::certificate::{Certificate, CertificateFiles};
use fluxlit_support::client::get;
use fluxlit_support::port::free_port;
use fluxlit_support::wait::wait_until;

use crate::bench::gateway::configs;
use crate::bench::local;
use crate::setup;

/// A server program.
pub(super) struct Server {
    pub(super) name: &'static str,
    /// Name of the thread that serves; `None` if there is only one.
    pub(super) thread: Option<&'static str>,
    pub(super) program: fn() -> anyhow::Result<PathBuf>,
    /// Arguments: program, variant, folder, address of the upstream.
    #[expect(clippy::type_complexity, reason = "used once")]
    pub(super) command:
        fn(&Path, Variant, &Path, SocketAddr) -> anyhow::Result<(Command, Addresses)>,
}

/// What is switched on in addition to metrics and request ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Logged,
    Plain,
    Tls,
}

/// Where a server listens.
pub(super) struct Addresses {
    pub(super) http1: SocketAddr,
    /// For HTTP/2 without TLS.
    pub(super) http2: SocketAddr,
    /// The certificate, if the server terminates TLS.
    pub(super) certificate: Option<PathBuf>,
}

impl Variant {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Logged, Self::Tls];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Logged => "logged",
            Self::Plain => "plain",
            Self::Tls => "tls",
        }
    }
}

impl Addresses {
    /// Waits until the server forwards a request. `check` fails if the program has ended.
    pub(super) fn wait_until_served(
        &self,
        mut check: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut ended = Ok(());
        let serves = wait_until(START_LIMIT, || {
            ended = check();
            ended.is_err()
                || get(
                    self.http1,
                    &format!("{MOUNT}/1k"),
                    self.certificate.as_deref(),
                )
                .is_ok_and(|response| response.status == 200)
        });
        ended?;
        ensure!(serves, "the program does not forward requests");
        Ok(())
    }
}

/// The gateway of this repository.
pub(super) const GATEWAY: Server = Server {
    name: "gateway",
    thread: Some("worker-0"),
    program: setup::release_gateway,
    command: gateway,
};

/// nginx, which creates request ids, and takes the client's address from a trusted proxy, as the gateway does.
pub(super) const NGINX: Server = Server {
    name: "nginx",
    thread: None,
    program: setup::recent_nginx,
    command: nginx,
};

fn gateway(
    program: &Path,
    variant: Variant,
    folder: &Path,
    origin: SocketAddr,
) -> anyhow::Result<(Command, Addresses)> {
    let listen = local(free_port()?);
    let mut command = configs::gateway(program, listen, origin);
    let certificate = certificate(variant, folder)?;
    if let Some(files) = &certificate {
        configs::with_tls(&mut command, files);
    }
    if variant == Variant::Logged {
        command.env("FLUXLIT_ENABLE_GATEWAY_ACCESS_LOG", "1");
    }
    let addresses = Addresses {
        http1: listen,
        http2: listen,
        certificate: certificate.map(|files| files.certificate),
    };
    Ok((command, addresses))
}

fn nginx(
    program: &Path,
    variant: Variant,
    folder: &Path,
    origin: SocketAddr,
) -> anyhow::Result<(Command, Addresses)> {
    let (http1, http2) = (local(free_port()?), local(free_port()?));
    let certificate = certificate(variant, folder)?;
    let listens = match &certificate {
        Some(files) => format!(
            "listen {http1} ssl; http2 on; ssl_certificate {}; ssl_certificate_key {};",
            files.certificate.display(),
            files.key.display()
        ),
        None => format!("listen {http1}; listen {http2} http2;"),
    };
    let log = match variant {
        Variant::Logged => "access_log access.log combined buffer=64k flush=1s;",
        Variant::Plain | Variant::Tls => "access_log off;",
    };
    let config = folder.join("nginx.conf");
    std::fs::write(
        &config,
        format!(
            "{basics}
            master_process off;
            http {{
                {log}
                keepalive_requests 1000000000;
                upstream origin {{ server {origin}; keepalive 8; keepalive_requests 1000000000; }}
                map $http_upgrade $connection_out {{ default upgrade; '' ''; }}
                server {{
                    {listens}
                    set_real_ip_from 127.0.0.1;
                    real_ip_header X-Forwarded-For;
                    location / {{
                        proxy_pass http://origin;
                        proxy_http_version 1.1;
                        proxy_set_header Host $http_host;
                        proxy_set_header Connection $connection_out;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header X-Forwarded-For $remote_addr;
                        proxy_set_header X-Request-ID $request_id;
                        add_header X-Request-ID $request_id;
                        proxy_request_buffering off;
                    }}
                }}
            }}",
            basics = configs::nginx_basics(CONNECTIONS),
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(config);
    let addresses = Addresses {
        http1,
        http2,
        certificate: certificate.map(|files| files.certificate),
    };
    Ok((command, addresses))
}

/// Creates a certificate if the variant needs one.
fn certificate(variant: Variant, folder: &Path) -> anyhow::Result<Option<CertificateFiles>> {
    Ok(match variant {
        Variant::Tls => Some(Certificate::create_files(
            folder,
            &["localhost", "127.0.0.1"],
        )?),
        Variant::Logged | Variant::Plain => None,
    })
}

/// Connections that nginx must support.
const CONNECTIONS: usize = 64;

/// How long a server may take to start; callgrind makes it slow.
const START_LIMIT: Duration = Duration::from_secs(120);
