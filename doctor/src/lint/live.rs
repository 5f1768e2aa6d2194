//! Asks a running Envoy whether its filter counts a request (F05), and whether it has failed (F03).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::connect_unverified;
use crate::lint::envoy::{Envoy, Ours};
use crate::lint::outcomes::Outcomes;
use crate::lint::path::removed_mounts;
use crate::wire::{LIMIT, exchange, request};

/// Checks all listeners of an Envoy with the FluxLit filter. `admin` is its admin address.
pub(crate) async fn check(envoy: &Envoy, admin: SocketAddr, outcomes: &mut Outcomes) {
    for ours in envoy.ours() {
        let place = ours.place();
        match moves(&ours, admin).await {
            Ok(true) => outcomes.live.right(format!("{place}: the filter's counters move with a request")),
            Ok(false) => outcomes.live.fail(
                format!("{place}: a request was answered, but no counter of the filter moved: another proxy or another listener answered"),
                "check that --admin belongs to the proxy that was linted, and that the filter is in the listener's chain (F02)",
            ),
            Err(error) => outcomes.live.skip(format!("{place}: {error}")),
        }
        if ours.filter.is_wasm() {
            failures(&ours, admin, outcomes).await;
        }
    }
}

/// Sends one request to a listener; true if a counter of the filter has moved then.
async fn moves(ours: &Ours<'_>, admin: SocketAddr) -> io::Result<bool> {
    let mut address: SocketAddr = ours
        .manager
        .address
        .parse()
        .map_err(|_| io::Error::other("the listener has no address of this machine"))?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let prefix = if ours.filter.is_module() {
        "dynamicmodulescustom.fluxlit"
    } else {
        "wasmcustom.fluxlit"
    };
    let before = counters(admin, prefix).await?;
    let mount = removed_mounts(&ours.filter.settings_text())
        .into_iter()
        .next()
        .unwrap_or_default();
    let target = format!("{mount}/_stcore/health");
    let request = request("GET", &target, &address.to_string(), &[]);
    if ours.manager.has_tls {
        let name = ours.manager.server_name.as_deref();
        exchange_over_tls(address, name, &request).await?;
    } else {
        exchange(address, None, &request).await?;
    }
    // The filter adds its counts to Envoy's once a second.
    let limit = tokio::time::Instant::now() + LIMIT;
    while tokio::time::Instant::now() < limit {
        if counters(admin, prefix).await? > before {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(false)
}

/// Sends a request over TLS, and waits until the response begins.
async fn exchange_over_tls(
    address: SocketAddr,
    name: Option<&str>,
    request: &[u8],
) -> io::Result<()> {
    let name = match name {
        Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
        None => ServerName::from(address.ip()),
    };
    let work = async {
        let stream = TcpStream::connect(address).await?;
        let mut stream = connect_unverified(name, stream).await?;
        stream.write_all(request).await?;
        stream.flush().await?;
        match stream.read(&mut [0; 1024]).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(()),
        }
    };
    let done = timeout(LIMIT, work).await;
    let done = done.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
    done.map_err(|error| io::Error::other(format!("a request over TLS gets no answer: {error}")))
}

async fn failures(ours: &Ours<'_>, admin: SocketAddr, outcomes: &mut Outcomes) {
    let name = ours.filter.plugin()["name"].as_str().unwrap_or("fluxlit");
    let reloads = counters(admin, &format!("wasm.{name}.vm_reload")).await;
    if let Ok(count @ 1..) = reloads {
        outcomes.failure.warn(
            format!("{}: the filter has failed and was started again ({count} in wasm.{name}.vm_reload)", ours.place()),
            "look for `panicked` in Envoy's log, and report the line",
        );
    }
}

/// Returns the sum of the counters whose names begin like this.
async fn counters(admin: SocketAddr, prefix: &str) -> io::Result<u64> {
    let host = admin.to_string();
    let reply = exchange(admin, None, &request("GET", "/stats", &host, &[])).await?;
    if reply.status != 200 {
        return Err(io::Error::other(format!(
            "the admin interface answers {}",
            reply.status
        )));
    }
    let text = String::from_utf8_lossy(&reply.body);
    let values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        value
            .parse::<u64>()
            .ok()
            .filter(|_| name.starts_with(prefix))
    });
    Ok(values.sum())
}
