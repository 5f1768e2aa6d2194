//! Configures and starts each proxy.
//!
//! Each is a reverse proxy for one upstream with one worker. It keeps upstream connections open, streams in both
//! directions and logs no requests. Only the gateway of this project edits more headers than a proxy must.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use fluxlit_envoy::{Bootstrap, MOUNT};
use fluxlit_support::certificate::CertificateFiles;
use fluxlit_support::port::free_port;
use serde_json::Value;

use super::proxies::{Placement, Programs};
use crate::bench::local;

/// nginx with its default buffers.
pub(super) fn nginx(programs: &Programs, placement: &Placement) -> anyhow::Result<Command> {
    nginx_with(&programs.nginx, placement, "")
}

/// A newer version, with the same configuration.
pub(super) fn recent_nginx(programs: &Programs, placement: &Placement) -> anyhow::Result<Command> {
    nginx_with(&programs.recent_nginx, placement, "")
}

/// nginx with buffers for large bodies; the default is 4 KiB.
pub(super) fn nginx_64k(programs: &Programs, placement: &Placement) -> anyhow::Result<Command> {
    let buffers = "proxy_buffers 8 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 128k;";
    nginx_with(&programs.nginx, placement, buffers)
}

fn nginx_with(program: &Path, placement: &Placement, more: &str) -> anyhow::Result<Command> {
    let Placement {
        folder,
        listen,
        origin,
        max_connections,
        tls,
    } = placement;
    let listen = match tls {
        // Newer versions have a directive `http2` too, which older ones do not know.
        Some(files) => format!(
            "listen {listen} ssl http2; ssl_certificate {}; ssl_certificate_key {};",
            files.certificate.display(),
            files.key.display()
        ),
        None => format!("listen {listen};"),
    };
    let config = folder.join("nginx.conf");
    std::fs::write(
        &config,
        format!(
            r#"{basics}
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
                    {listen}
                    client_max_body_size 0;
                    location / {{
                        proxy_pass http://origin;
                        proxy_http_version 1.1;
                        proxy_set_header Host $http_host;
                        proxy_set_header Connection $connection_out;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_request_buffering off;
                        # Otherwise nginx writes to disk what the client does not accept at once.
                        proxy_max_temp_file_size 0;
                        proxy_read_timeout 1h;
                        proxy_send_timeout 1h;
                        {more}
                    }}
                }}
            }}"#,
            basics = nginx_basics(*max_connections),
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(config);
    Ok(command)
}

pub(super) fn haproxy(programs: &Programs, placement: &Placement) -> anyhow::Result<Command> {
    let Placement {
        folder,
        listen,
        origin,
        max_connections,
        ..
    } = placement;
    let config = folder.join("haproxy.cfg");
    std::fs::write(
        &config,
        format!(
            "global
                nbthread 1
                maxconn {max_connections}
            defaults
                mode http
                timeout connect 5s
                timeout client 1h
                timeout server 1h
                timeout tunnel 1h
                http-reuse always
            listen edge
                bind {listen}
                server origin {origin}
"
        ),
    )?;
    let mut command = Command::new(&programs.haproxy);
    command.arg("-db").arg("-f").arg(config);
    Ok(command)
}

pub(super) fn caddy(programs: &Programs, placement: &Placement) -> anyhow::Result<Command> {
    let Placement {
        folder,
        listen,
        origin,
        ..
    } = placement;
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

/// Envoy with the shipped listener, without our filter.
pub(super) fn envoy(programs: &Programs, placement: &Placement) -> anyhow::Result<Command> {
    let shipped = Bootstrap::shipped()
        .without_guard()
        .without_access_log()
        .listening_on(placement.listen)
        .forwarding_to(placement.origin)
        .administered_on(local(free_port()?));
    let mut listener = shipped.value()["static_resources"]["listeners"][0].clone();
    listener
        .pointer_mut("/filter_chains/0/filters/1/typed_config/http_filters")
        .and_then(Value::as_array_mut)
        .context("bootstrap.yaml has no HTTP filters")?
        .remove(0);
    let config = placement.folder.join("envoy.json");
    let bootstrap = shipped.with_listeners(vec![listener]);
    std::fs::write(&config, bootstrap.to_json())?;
    let mut command = Command::new(&programs.envoy);
    command
        .args(["--disable-hot-restart", "--log-level", "warning"])
        .args(["--concurrency", "1", "-c"])
        .arg(config);
    Ok(command)
}

pub(super) fn fluxlit(programs: &Programs, placement: &Placement) -> anyhow::Result<Command> {
    std::fs::write(placement.folder.join("app.py"), FLUXLIT_APP)?;
    let mut command = Command::new(programs.python_bench.join("uvicorn"));
    command
        .args(["--factory", "fluxlit.runtime:create_gateway_app"])
        .args(["--log-level", "warning", "--no-access-log"])
        .args(["--host", &placement.listen.ip().to_string()])
        .args(["--port", &placement.listen.port().to_string()])
        .env("PYTHONPATH", &placement.folder)
        .env("FLUXLIT_APP", "app:app")
        .env("FLUXLIT_ROOT_PATH", MOUNT)
        // The default limit is below the size of the large messages with their frame headers.
        .env("FLUXLIT_GATEWAY_WS_MAX_MESSAGE_BYTES", "16777216")
        .env(
            "FLUXLIT_STREAMLIT_UPSTREAM",
            format!("http://{}", placement.origin),
        );
    Ok(command)
}

pub(super) fn ours(programs: &Programs, placement: &Placement) -> anyhow::Result<Command> {
    let mut command = gateway(&programs.ours, placement.listen, placement.origin);
    if let Some(files) = &placement.tls {
        with_tls(&mut command, files);
    }
    Ok(command)
}

/// The gateway with one worker, metrics, a trusted proxy in front, and no limit for bodies.
pub(super) fn gateway(program: &Path, listen: SocketAddr, origin: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command
        .arg("run")
        .env("FLUXLIT_GATEWAY_HOST", listen.ip().to_string())
        .env("FLUXLIT_GATEWAY_PORT", listen.port().to_string())
        .env("FLUXLIT_GATEWAY_WORKERS", "1")
        .env("FLUXLIT_ROOT_PATH", MOUNT)
        .env(
            "FLUXLIT_STREAMLIT_UPSTREAM",
            format!("http://{origin}{MOUNT}"),
        )
        .env("FLUXLIT_TRUST_PROXY", "1")
        .env("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1")
        .env("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "1")
        .env("FLUXLIT_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:0")
        .env("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", "0");
    command
}

/// Lets the gateway terminate TLS.
pub(super) fn with_tls(command: &mut Command, files: &CertificateFiles) {
    command
        .env("FLUXLIT_TLS_CERTIFICATE", &files.certificate)
        .env("FLUXLIT_TLS_KEY", &files.key);
}

/// nginx directives for one worker in the foreground, with its files in its own folder.
///
/// `user root` matters only if we run as root: otherwise the worker could not read the files. nginx allocates memory
/// for all `connections` when it starts.
pub(super) fn nginx_basics(connections: usize) -> String {
    format!(
        "daemon off;
        user root;
        worker_processes 1;
        worker_rlimit_nofile {connections};
        error_log stderr;
        pid nginx.pid;
        events {{ worker_connections {connections}; }}"
    )
}

const FLUXLIT_APP: &str = "from fluxlit import FluxLit\n\napp = FluxLit()\n";
