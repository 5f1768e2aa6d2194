//! Starts child processes that end with their owner.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait::wait_until;

/// A running process in its own process group. Dropping it ends the whole group: SIGTERM, and SIGKILL after ten seconds
/// for processes that are left.
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

    /// Returns the process id, which is also the id of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status if the process has ended.
    ///
    /// # Errors
    ///
    /// If the status cannot be read.
    pub fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends the process now, and waits for it.
    pub fn end(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let Some(group) = group else { return };
        if matches!(self.child.try_wait(), Ok(None)) {
            // A group that has ended needs no signal.
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

/// The maximum time for a process to end after SIGTERM.
const GRACE_PERIOD: Duration = Duration::from_secs(10);
