//! Which proxies are compared, and how is each configured?
//!
//! Each as a reverse proxy of one upstream with one worker, that keeps connections to it, streams both ways and logs no
//! requests. None but ours edits more headers than it must.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::{Bootstrap, MOUNT, Process, free_port, free_ports, get, wait_until};
use serde_json::Value;

use super::origin::SMALL;
use super::{Bench, Options};
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
        command: nginx,
    },
    Proxy {
        name: "haproxy",
        command: haproxy,
    },
    Proxy {
        name: "caddy",
        command: caddy,
    },
    Proxy {
        name: "envoy",
        command: envoy,
    },
    Proxy {
        name: "fluxlit",
        command: fluxlit,
    },
    Proxy {
        name: OURS,
        command: ours,
    },
];

/// No proxy at all: what the load and the origin can do.
pub(super) const DIRECT: &str = "direct";

/// The yardstick.
pub(super) const NGINX: &str = "nginx";

/// The gateway of this repository.
pub(super) const OURS: &str = "ours";

/// The executables, of what is measured.
pub(super) struct Programs {
    nginx: PathBuf,
    haproxy: PathBuf,
    /// The folder of Caddy and FluxLit.
    python_bench: PathBuf,
    envoy: PathBuf,
    ours: PathBuf,
}

impl Programs {
    /// Finds, installs and builds what the options ask for.
    pub(super) fn prepare(options: &Options) -> anyhow::Result<Self> {
        let when = |wanted, find: fn() -> anyhow::Result<PathBuf>| match wanted {
            true => find(),
            false => Ok(PathBuf::new()),
        };
        Ok(Self {
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
struct Place {
    /// For its configuration and its files.
    folder: PathBuf,
    listen: SocketAddr,
    origin: SocketAddr,
}

/// Starts every proxy that the options ask for.
pub(super) fn start_all(
    bench: &Bench<'_>,
    programs: &Programs,
    origin: SocketAddr,
) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    if bench.options.wants(DIRECT) {
        targets.push(Target {
            name: DIRECT,
            address: origin,
            process: None,
        });
    }
    let wanted = || ALL.iter().filter(|proxy| bench.options.wants(proxy.name));
    for (proxy, port) in wanted().zip(free_ports(wanted().count())?) {
        bench.check_stop()?;
        targets.push(start(bench, programs, proxy, local(port), origin)?);
    }
    Ok(targets)
}

/// Starts one proxy on its core, and waits until it forwards.
fn start(
    bench: &Bench<'_>,
    programs: &Programs,
    proxy: &Proxy,
    listen: SocketAddr,
    origin: SocketAddr,
) -> anyhow::Result<Target> {
    let place = Place {
        folder: bench.folder.join(proxy.name),
        listen,
        origin,
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

fn nginx(programs: &Programs, place: &Place) -> anyhow::Result<Command> {
    let Place {
        folder,
        listen,
        origin,
    } = place;
    let config = folder.join("nginx.conf");
    std::fs::write(
        &config,
        format!(
            r#"{NGINX_BASICS}
            http {{
                access_log off;
                keepalive_requests 1000000000;
                upstream origin {{
                    server {origin};
                    keepalive 1024;
                    keepalive_requests 1000000000;
                }}
                map $http_upgrade $connection_out {{ default upgrade; '' ''; }}
                server {{
                    listen {listen};
                    client_max_body_size 0;
                    location / {{
                        proxy_pass http://origin;
                        proxy_http_version 1.1;
                        proxy_set_header Host $http_host;
                        proxy_set_header Connection $connection_out;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_request_buffering off;
                        # Else it writes to disk what the client does not take at once.
                        proxy_max_temp_file_size 0;
                        proxy_read_timeout 1h;
                        proxy_send_timeout 1h;
                    }}
                }}
            }}"#
        ),
    )?;
    let mut command = Command::new(&programs.nginx);
    command.arg("-p").arg(folder).arg("-c").arg(config);
    Ok(command)
}

fn haproxy(programs: &Programs, place: &Place) -> anyhow::Result<Command> {
    let Place {
        folder,
        listen,
        origin,
    } = place;
    let config = folder.join("haproxy.cfg");
    std::fs::write(
        &config,
        format!(
            "global
                nbthread 1
                maxconn 9000
            defaults
                mode http
                timeout connect 5s
                timeout client 1h
                timeout server 1h
                timeout tunnel 1h
                http-reuse always
            listen edge
                bind {listen}
                server origin {origin} pool-max-conn -1
            "
        ),
    )?;
    let mut command = Command::new(&programs.haproxy);
    command.arg("-db").arg("-f").arg(config);
    Ok(command)
}

fn caddy(programs: &Programs, place: &Place) -> anyhow::Result<Command> {
    let Place {
        folder,
        listen,
        origin,
    } = place;
    let config = folder.join("Caddyfile");
    std::fs::write(
        &config,
        format!(
            "{{
                admin off
                persist_config off
                auto_https off
            }}
            http://:{port} {{
                bind {ip}
                reverse_proxy {origin} {{
                    transport http {{
                        keepalive_idle_conns_per_host 1024
                    }}
                }}
            }}",
            ip = listen.ip(),
            port = listen.port(),
        ),
    )?;
    let mut command = Command::new(programs.python_bench.join("caddy"));
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(config)
        .env("GOMAXPROCS", "1")
        .env("XDG_CONFIG_HOME", folder)
        .env("XDG_DATA_HOME", folder);
    Ok(command)
}

/// The listener that is shipped, without our filter.
fn envoy(programs: &Programs, place: &Place) -> anyhow::Result<Command> {
    let shipped = Bootstrap::shipped()
        .listening_on(place.listen)
        .forwarding_to(place.origin)
        .administered_on(local(free_port()?));
    let mut listener = shipped.value()["static_resources"]["listeners"][0].clone();
    listener
        .pointer_mut("/filter_chains/0/filters/1/typed_config/http_filters")
        .and_then(Value::as_array_mut)
        .context("bootstrap.yaml has no HTTP filters")?
        .remove(0);
    let config = place.folder.join("envoy.json");
    let bootstrap = shipped.with_listeners(vec![listener]);
    std::fs::write(&config, bootstrap.to_json())?;
    let mut command = Command::new(&programs.envoy);
    command
        .args(["--disable-hot-restart", "--log-level", "warning"])
        .args(["--concurrency", "1", "-c"])
        .arg(config);
    Ok(command)
}

fn fluxlit(programs: &Programs, place: &Place) -> anyhow::Result<Command> {
    std::fs::write(place.folder.join("app.py"), FLUXLIT_APP)?;
    let mut command = Command::new(programs.python_bench.join("uvicorn"));
    command
        .args(["--factory", "fluxlit.runtime:create_gateway_app"])
        .args(["--log-level", "warning", "--no-access-log"])
        .args(["--host", &place.listen.ip().to_string()])
        .args(["--port", &place.listen.port().to_string()])
        .env("PYTHONPATH", &place.folder)
        .env("FLUXLIT_APP", "app:app")
        .env("FLUXLIT_ROOT_PATH", MOUNT)
        .env(
            "FLUXLIT_STREAMLIT_UPSTREAM",
            format!("http://{}", place.origin),
        );
    Ok(command)
}

fn ours(programs: &Programs, place: &Place) -> anyhow::Result<Command> {
    let mut command = Command::new(&programs.ours);
    command
        .arg("run")
        .env("FLUXLIT_GATEWAY_HOST", place.listen.ip().to_string())
        .env("FLUXLIT_GATEWAY_PORT", place.listen.port().to_string())
        .env("FLUXLIT_GATEWAY_WORKERS", "1")
        .env("FLUXLIT_ROOT_PATH", MOUNT)
        .env(
            "FLUXLIT_STREAMLIT_UPSTREAM",
            format!("http://{}{MOUNT}", place.origin),
        )
        .env("FLUXLIT_TRUST_PROXY", "1")
        .env("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1")
        .env("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "1")
        .env("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", "0");
    Ok(command)
}

/// One worker in the foreground, with its files in its own folder; run by whoever runs us, or root's worker could not
/// read them.
pub(super) const NGINX_BASICS: &str = "
    daemon off;
    user root;
    worker_processes 1;
    error_log stderr;
    pid nginx.pid;
    events { worker_connections 2048; }
";

const FLUXLIT_APP: &str = "from fluxlit import FluxLit\n\napp = FluxLit()\n";

/// How long a proxy may take to start.
pub(super) const START_LIMIT: Duration = Duration::from_secs(60);
