//! A process that ends when its owner does.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
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

/// A loopback port that is free now.
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

/// That many different loopback ports that are free now. Ports asked for one by one may be the same one twice.
///
/// # Errors
///
/// If there are none.
pub fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let held = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<std::io::Result<Vec<_>>>()?;
    held.iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
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

/// How long a process may take to end by itself.
const GRACE_PERIOD: Duration = Duration::from_secs(10);
