//! Which proxies are compared, and how are they started?

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::{MOUNT, Process, free_port, get, wait_until};

use super::files::SMALL;
use super::{Bench, Options, configs};
use crate::bench::{local, pin_to};
use crate::setup;

/// A program that forwards.
pub(super) struct Proxy {
    pub(super) name: &'static str,
    command: fn(&Programs, &Place) -> anyhow::Result<Command>,
}

/// Every proxy.
pub(super) const ALL: [Proxy; 6] = [
    Proxy {
        name: NGINX,
        command: configs::nginx,
    },
    Proxy {
        name: "haproxy",
        command: configs::haproxy,
    },
    Proxy {
        name: "caddy",
        command: configs::caddy,
    },
    Proxy {
        name: "envoy",
        command: configs::envoy,
    },
    Proxy {
        name: "fluxlit",
        command: configs::fluxlit,
    },
    Proxy {
        name: OURS,
        command: configs::ours,
    },
];

/// No proxy at all: what the load and the origin can do.
pub(super) const DIRECT: &str = "direct";

/// The yardstick.
pub(super) const NGINX: &str = "nginx";

/// The gateway of this repository.
pub(super) const OURS: &str = "ours";

/// The executables; a path is empty if the options do not ask for the program.
pub(super) struct Programs {
    pub(super) wrk: PathBuf,
    pub(super) nginx: PathBuf,
    pub(super) haproxy: PathBuf,
    /// The folder of Caddy and FluxLit.
    pub(super) python_bench: PathBuf,
    pub(super) envoy: PathBuf,
    pub(super) ours: PathBuf,
}

impl Programs {
    /// Finds, installs and builds what the options ask for.
    pub(super) fn prepare(options: &Options) -> anyhow::Result<Self> {
        let when = |wanted, find: fn() -> anyhow::Result<PathBuf>| match wanted {
            true => find(),
            false => Ok(PathBuf::new()),
        };
        Ok(Self {
            wrk: setup::debian("wrk", "wrk")?,
            nginx: setup::debian("nginx", "nginx-light")?,
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
            ours: when(options.wants(OURS), setup::release_gateway)?,
        })
    }
}

/// A proxy that runs, or the origin itself. Dropping it ends it.
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    process: Option<Process>,
}

impl Target {
    /// The process to measure; `None` without a proxy.
    pub(super) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}

/// Where a proxy runs.
pub(super) struct Place {
    /// For its configuration and its files.
    pub(super) folder: PathBuf,
    pub(super) listen: SocketAddr,
    pub(super) origin: SocketAddr,
    /// With both sides.
    pub(super) most_connections: usize,
}

/// Starts every proxy that the options ask for.
pub(super) fn start_all(
    bench: &Bench<'_>,
    programs: &Programs,
    origin: SocketAddr,
) -> anyhow::Result<Vec<Target>> {
    eprintln!("starting the proxies …");
    let mut targets = Vec::new();
    if bench.options.wants(DIRECT) {
        targets.push(Target {
            name: DIRECT,
            address: origin,
            process: None,
        });
    }
    for proxy in ALL.iter().filter(|proxy| bench.options.wants(proxy.name)) {
        targets.push(start(bench, programs, proxy, origin, MOST_CONNECTIONS)?);
    }
    Ok(targets)
}

/// Starts one proxy on its core, and waits until it forwards.
pub(super) fn start(
    bench: &Bench<'_>,
    programs: &Programs,
    proxy: &Proxy,
    origin: SocketAddr,
    most_connections: usize,
) -> anyhow::Result<Target> {
    bench.check_stop()?;
    let listen = local(free_port()?);
    let place = Place {
        folder: bench.folder.join(proxy.name),
        listen,
        origin,
        most_connections,
    };
    std::fs::create_dir_all(&place.folder)?;
    let log = place.folder.join("log");
    let mut command = (proxy.command)(programs, &place)?;
    command
        .current_dir(&place.folder)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log)?)
        .stderr(std::fs::OpenOptions::new().append(true).open(&log)?);
    // A process inherits where the thread that starts it may run.
    pin_to(bench.proxy_core)?;
    let process = Process::start(command);
    pin_to(bench.load_core)?;
    let mut process = process.with_context(|| format!("cannot run {}", proxy.name))?;
    let forwards = wait_until(START_LIMIT, || {
        bench.stop.is_asked()
            || !matches!(process.ended(), Ok(None))
            || get(listen, &format!("{MOUNT}/{SMALL}"), None)
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
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

/// What a proxy must be able to hold under every load, unless it is about their number.
pub(super) const MOST_CONNECTIONS: usize = 2048;

/// How long a proxy may take to start.
pub(super) const START_LIMIT: Duration = Duration::from_secs(60);
