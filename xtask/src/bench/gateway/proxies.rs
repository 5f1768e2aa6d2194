//! Lists the proxies to compare, and starts them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::MOUNT;
use fluxlit_support::certificate::CertificateFiles;
use fluxlit_support::client::get;
use fluxlit_support::port::free_port;
use fluxlit_support::process::Process;
use fluxlit_support::wait::wait_until;

use super::file_server::SMALL;
use super::{Bench, Options, configs};
use crate::bench::{local, pin_to};
use crate::setup;

/// A proxy program.
pub(super) struct Proxy {
    pub(super) name: &'static str,
    /// True if it is measured with TLS too.
    with_tls: bool,
    command: fn(&Programs, &Placement) -> anyhow::Result<Command>,
}

/// All proxies.
pub(super) const ALL: [Proxy; 8] = [
    Proxy {
        name: NGINX,
        with_tls: true,
        command: configs::nginx,
    },
    Proxy {
        name: RECENT_NGINX,
        with_tls: true,
        command: configs::recent_nginx,
    },
    Proxy {
        name: "nginx-64k",
        with_tls: false,
        command: configs::nginx_64k,
    },
    Proxy {
        name: "haproxy",
        with_tls: false,
        command: configs::haproxy,
    },
    Proxy {
        name: "caddy",
        with_tls: false,
        command: configs::caddy,
    },
    Proxy {
        name: "envoy",
        with_tls: false,
        command: configs::envoy,
    },
    Proxy {
        name: "fluxlit",
        with_tls: false,
        command: configs::fluxlit,
    },
    Proxy {
        name: OURS,
        with_tls: true,
        command: configs::ours,
    },
];

/// No proxy: the limit of the load generator and the origin.
pub(super) const DIRECT: &str = "direct";

/// The proxy that all others are compared with.
pub(super) const NGINX: &str = "nginx";

/// A newer version of it.
pub(super) const RECENT_NGINX: &str = "nginx-recent";

/// The gateway of this repository.
pub(super) const OURS: &str = "ours";

/// Paths of the executables; a path is empty if the options exclude the program.
pub(super) struct Programs {
    pub(super) wrk: PathBuf,
    pub(super) h2load: PathBuf,
    pub(super) nginx: PathBuf,
    pub(super) recent_nginx: PathBuf,
    pub(super) haproxy: PathBuf,
    /// Folder that contains Caddy and FluxLit.
    pub(super) python_bench: PathBuf,
    pub(super) envoy: PathBuf,
    pub(super) ours: PathBuf,
}

impl Programs {
    /// Finds, installs or builds the programs that the options select.
    pub(super) fn prepare(options: &Options) -> anyhow::Result<Self> {
        let when = |wanted, find: fn() -> anyhow::Result<PathBuf>| match wanted {
            true => find(),
            false => Ok(PathBuf::new()),
        };
        Ok(Self {
            wrk: setup::debian("wrk", "wrk")?,
            h2load: when(options.measures_tls(), || {
                setup::debian("h2load", "nghttp2-client")
            })?,
            nginx: setup::debian("nginx", "nginx")?,
            recent_nginx: when(options.wants(RECENT_NGINX), setup::recent_nginx)?,
            haproxy: when(options.wants("haproxy"), || {
                setup::debian("haproxy", "haproxy")
            })?,
            python_bench: when(
                options.wants("caddy") || options.wants("fluxlit"),
                setup::python_bench_packages,
            )?,
            envoy: when(options.wants("envoy"), || {
                Ok(setup::python_packages()?.join("envoy"))
            })?,
            ours: match &options.gateway {
                Some(path) => std::fs::canonicalize(path)
                    .with_context(|| format!("cannot find {}", path.display()))?,
                None => when(options.wants(OURS), setup::release_gateway)?,
            },
        })
    }
}

/// A running proxy, or the origin itself. It stops when it is dropped.
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    process: Option<Process>,
}

impl Target {
    /// Returns the process to measure; `None` without a proxy.
    pub(super) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}

/// Folder, addresses and size of a proxy.
pub(super) struct Placement {
    /// Folder for its configuration and logs.
    pub(super) folder: PathBuf,
    pub(super) listen: SocketAddr,
    pub(super) origin: SocketAddr,
    /// Maximum number of connections, downstream and upstream together.
    pub(super) max_connections: usize,
    /// The certificate, if the proxy terminates TLS.
    pub(super) tls: Option<CertificateFiles>,
}

/// Starts every proxy that the options select; with `tls`, those that are measured with TLS, which they terminate.
pub(super) fn start_all(
    bench: &Bench<'_>,
    programs: &Programs,
    origin: SocketAddr,
    tls: Option<&CertificateFiles>,
) -> anyhow::Result<Vec<Target>> {
    eprintln!("starting the proxies …");
    let mut targets = Vec::new();
    if bench.options.wants(DIRECT) && tls.is_none() {
        targets.push(Target {
            name: DIRECT,
            address: origin,
            process: None,
        });
    }
    for proxy in ALL.iter().filter(|proxy| bench.options.wants(proxy.name)) {
        if tls.is_none() || proxy.with_tls {
            let target = start(bench, programs, proxy, origin, MAX_CONNECTIONS, tls)?;
            targets.push(target);
        }
    }
    Ok(targets)
}

/// Starts a proxy on its core, and waits until it forwards a request.
pub(super) fn start(
    bench: &Bench<'_>,
    programs: &Programs,
    proxy: &Proxy,
    origin: SocketAddr,
    max_connections: usize,
    tls: Option<&CertificateFiles>,
) -> anyhow::Result<Target> {
    bench.check_stop()?;
    let listen = local(free_port()?);
    let placement = Placement {
        folder: bench.folder.join(proxy.name),
        listen,
        origin,
        max_connections,
        tls: tls.cloned(),
    };
    std::fs::create_dir_all(&placement.folder)?;
    let log = placement.folder.join("log");
    let mut command = (proxy.command)(programs, &placement)?;
    command
        .current_dir(&placement.folder)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log)?)
        .stderr(std::fs::OpenOptions::new().append(true).open(&log)?);
    // A process inherits the core of the thread that starts it.
    pin_to(bench.proxy_core)?;
    let process = Process::start(command);
    pin_to(bench.load_core)?;
    let mut process = process.with_context(|| format!("cannot run {}", proxy.name))?;
    let trusted = tls.map(|files| files.certificate.as_path());
    let forwards = wait_until(START_LIMIT, || {
        bench.stop.is_requested()
            || !matches!(process.ended(), Ok(None))
            || get(listen, &format!("{MOUNT}/{SMALL}"), trusted)
                .is_ok_and(|response| response.status == 200)
    });
    bench.check_stop()?;
    ensure!(
        forwards && matches!(process.ended(), Ok(None)),
        "{} does not forward; see {}",
        proxy.name,
        log.display()
    );
    Ok(Target {
        name: proxy.name,
        address: listen,
        process: Some(process),
    })
}

/// Connections that a proxy must support under every load, except with the idle WebSockets.
pub(super) const MAX_CONNECTIONS: usize = 2048;

/// Maximum time for a proxy to start.
pub(super) const START_LIMIT: Duration = Duration::from_secs(60);
