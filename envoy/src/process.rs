//! A process that ends when its owner does.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// A running process, in a process group of its own. Dropping it ends the whole group: SIGTERM, and SIGKILL to what is
/// left after ten seconds.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a process.
    ///
    /// # Errors
    ///
    /// If the executable cannot be started.
    pub fn start(mut command: Command) -> std::io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        Ok(Self { child })
    }

    /// The process's id, which is also its group's.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it has.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends the process now, and waits for it.
    pub fn end(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let Some(group) = group else { return };
        if matches!(self.child.try_wait(), Ok(None)) {
            // A group that is gone needs no signal.
            let _ = kill_process_group(group, Signal::TERM);
            wait_until(GRACE_PERIOD, || !matches!(self.child.try_wait(), Ok(None)));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A loopback port that is free now and stays so: see [`free_ports`].
///
/// # Errors
///
/// If there is none.
pub fn free_port() -> std::io::Result<u16> {
    let [port] = free_ports(1)?[..] else {
        return Err(std::io::Error::other("no free port"));
    };
    Ok(port)
}

/// That many different loopback ports that are free now.
///
/// They are below those that the kernel gives to outgoing connections and to listeners that ask for any port, so that
/// nobody takes one by chance before it is listened on. This process is never given a port twice, and another one begins
/// its search elsewhere.
///
/// # Errors
///
/// If there are none.
pub fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let range = FIRST_PORT..first_ephemeral_port();
    let room = u32::try_from(range.len()).unwrap_or_default();
    let mut ports = Vec::with_capacity(count);
    while ports.len() < count {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        if tried >= room {
            return Err(std::io::Error::other("no free port"));
        }
        let start = std::process::id().wrapping_mul(PROCESS_STRIDE);
        let offset = start.wrapping_add(tried) % room;
        let port = range.start + u16::try_from(offset).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ports.push(port);
        }
    }
    Ok(ports)
}

/// Where the ports begin that the kernel gives by itself (`ip_local_port_range` in ip(7)).
fn first_ephemeral_port() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|&port| port > FIRST_PORT)
        .unwrap_or(LINUX_EPHEMERAL)
}

/// Waits until `condition` holds; returns whether it came to hold within `limit`.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Below it are the ports of well-known services.
const FIRST_PORT: u16 = 10_240;

/// The kernel's own choice, if it does not say.
const LINUX_EPHEMERAL: u16 = 32_768;

/// How far apart two processes with adjacent numbers begin their search for a port.
const PROCESS_STRIDE: u32 = 251;

/// How long a process may take to end by itself.
const GRACE_PERIOD: Duration = Duration::from_secs(10);
