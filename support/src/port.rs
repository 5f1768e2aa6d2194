//! Finds loopback ports that stay free until a program listens on them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Returns the loopback address with this port.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Returns a free loopback port; see [`free_ports`].
///
/// # Errors
///
/// If no port is free.
pub fn free_port() -> std::io::Result<u16> {
    let [port] = free_ports(1)?[..] else {
        return Err(std::io::Error::other("no free port"));
    };
    Ok(port)
}

/// Returns `count` different loopback ports that are free now.
///
/// They are below the kernel's range for outgoing connections and for listeners that ask for any port, so that no other
/// program takes one by chance before it is used. This process never returns a port twice, and other processes start
/// their search elsewhere.
///
/// # Errors
///
/// If not enough ports are free.
pub fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let range = FIRST_PORT..first_ephemeral_port();
    let size = u32::try_from(range.len()).unwrap_or_default();
    let mut ports = Vec::with_capacity(count);
    while ports.len() < count {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        if tried >= size {
            return Err(std::io::Error::other("no free port"));
        }
        let start = std::process::id().wrapping_mul(PROCESS_STRIDE);
        let offset = start.wrapping_add(tried) % size;
        let port = range.start + u16::try_from(offset).unwrap_or_default();
        if TcpListener::bind(local(port)).is_ok() {
            ports.push(port);
        }
    }
    Ok(ports)
}

/// Returns the start of the range from which the kernel assigns ports (`ip_local_port_range` in ip(7)).
fn first_ephemeral_port() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|&port| port > FIRST_PORT)
        .unwrap_or(LINUX_EPHEMERAL)
}

/// Lower ports belong to well-known services.
const FIRST_PORT: u16 = 10_240;

/// The kernel's default start of that range.
const LINUX_EPHEMERAL: u16 = 32_768;

/// The distance between the first ports that two processes with adjacent ids try.
const PROCESS_STRIDE: u32 = 251;
