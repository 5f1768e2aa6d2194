//! Starts a program, and ends it with all of its processes: on request, when it ends, and when the gateway ends.
//!
//! Two processes run between the gateway and the program: the guard, and the launcher. Both end what is below them when their
//! child has ended, and both find it in the same way: the kernel gives every process that loses its parent to the nearest of
//! them that runs (`PR_SET_CHILD_SUBREAPER`). SIGTERM begins the stop: SIGTERM to the process group of the child, and SIGKILL
//! to everything when the grace period is over. A second request ends everything at once.
//!
//! | killed | what ends the others |
//! | --- | --- |
//! | the gateway | the guard, whose standard input is a pipe that the gateway holds open and never writes to |
//! | the launcher | the guard; the program itself is ended by the kernel (`PR_SET_PDEATHSIG`) |
//! | the gateway and the launcher | the guard |
//! | the guard | the gateway, by a variable in their environment |
//! | the gateway and the guard | the launcher, which the kernel sends SIGTERM |
//! | the guard and the launcher | the gateway; the program itself is ended by the kernel |
//!
//! Only if all three are killed before one of them can react do processes remain that the program has started. No process can
//! prevent that, and the kernel only for a whole PID namespace or control group: a container, or a systemd unit.
//!
//! The program writes its output to a pipe that the gateway reads. Without a reader, each write fails, and a program that writes
//! on SIGTERM may not end: Streamlit writes before it stops its server, its event loop logs the error, and the server goes on.
//! So guard and launcher read the pipe when the gateway has ended, and throw away what they read.
//!
//! The exit code is that of the program, or 128 and the number of the signal that ended it, as in a shell.

use std::ffi::OsString;
use std::io::stdin;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, wait,
};
use rustix::thread::disable_transparent_huge_pages;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::children::output;
use crate::children::processes::end_descendants;

/// Runs the guard or the launcher if this process was started as one, and returns its exit code. A program that uses
/// [`Gateway`] to start an app must call this first, because the gateway starts that program again as the guard.
///
/// [`Gateway`]: crate::Gateway
pub fn launch_if_requested() -> Option<ExitCode> {
    IS_AVAILABLE.store(true, Ordering::Relaxed);
    let mut arguments = std::env::args_os().skip(1);
    let request = arguments.next()?;
    let role = [Role::Guard, Role::Launcher]
        .into_iter()
        .find(|role| request == role.request())?;
    let grace_period = arguments
        .next()
        .and_then(|text| text.into_string().ok()?.parse().ok());
    let command: Vec<OsString> = arguments.collect();
    Some(match grace_period {
        Some(milliseconds) => launch(role, Duration::from_millis(milliseconds), &command),
        None => fail("it is started by the gateway, not by hand"),
    })
}

/// Returns the command of a guard; the program and its arguments have to be added. `gateway_ended`: the end of a pipe that
/// the gateway holds open.
pub(super) fn command(grace_period: Duration, gateway_ended: OwnedFd) -> Command {
    let mut command = again(Role::Guard, grace_period);
    command.env_remove(NOT_FOR_THE_APP).stdin(gateway_ended);
    command
}

/// What this executable does when it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Its child is the launcher.
    Guard,
    /// Its child is the program.
    Launcher,
}

impl Role {
    /// Returns the first argument. It is no command of the program, so that nobody starts it by accident.
    fn request(self) -> &'static str {
        match self {
            Self::Guard => "--launch-child",
            Self::Launcher => "--launch-child-guarded",
        }
    }
}

/// Returns whether this program can be started as a launcher.
pub(super) fn is_available() -> bool {
    IS_AVAILABLE.load(Ordering::Relaxed)
}

/// Returns the command that starts this executable in a role.
fn again(role: Role, grace_period: Duration) -> Command {
    // The file may have been replaced.
    let mut command = Command::new("/proc/self/exe");
    command
        // Not the name of the gateway, so that a kill by that name does not end all that could react.
        .arg0("fluxlit-launcher")
        .arg(role.request())
        .arg(grace_period.as_millis().to_string());
    command
}

fn launch(role: Role, grace_period: Duration, command: &[OsString]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime.and_then(|runtime| runtime.block_on(run(role, grace_period, command)));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("fluxlit-gateway: the launcher cannot run: {reason}");
    ExitCode::from(CANNOT_START)
}

async fn run(role: Role, grace_period: Duration, command: &[OsString]) -> std::io::Result<u8> {
    set_child_subreaper(Some(getpid()))?;
    // Registered before the program starts, so that none is missed.
    let mut ended = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // The terminal has gone. The gateway decides what that means.
    let _hang_up = signal(SignalKind::hangup())?;
    // Before the program starts, so that the pipe has a reader whatever happens to the gateway.
    let mut output = output::reader();
    let gateway = stdin().as_fd().try_clone_to_owned()?;
    let mut gateway = Some(pipe::Receiver::from_owned_fd(gateway)?);
    let child = match role {
        Role::Guard => {
            let mut launcher = again(Role::Launcher, grace_period);
            launcher.args(command).stdin(Stdio::inherit());
            start(launcher, Signal::TERM)?
        }
        Role::Launcher => {
            // Again, because the kernel forgets it if this executable has capabilities, such as the one for port 443.
            set_parent_process_death_signal(Some(Signal::TERM))?;
            let Some((program, arguments)) = command.split_first() else {
                return Err(std::io::Error::other("no program is named"));
            };
            // In a static executable, the allocator switches huge pages off for its process and all children. An app may
            // need them, as numpy does. Fails on kernels that do not have them.
            let _ = disable_transparent_huge_pages(false);
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null());
            start(command, Signal::KILL)?
        }
    };

    let mut stop = Stop::NotRequested;
    let status = loop {
        if let Some(status) = reap(child) {
            break status;
        }
        let deadline = match stop {
            Stop::Requested(deadline) => deadline,
            Stop::NotRequested => Instant::now() + FAR,
        };
        let is_requested = tokio::select! {
            _ = ended.recv() => false,
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
            () = end_of(&mut gateway), if gateway.is_some() => {
                gateway = None;
                if let Some(output) = output.take() {
                    tokio::spawn(output::discard(output));
                }
                // The launcher gets SIGTERM from the guard, or from the kernel.
                role == Role::Guard
            }
            () = sleep_until(deadline), if stop != Stop::NotRequested => true,
        };
        if is_requested {
            if stop == Stop::NotRequested {
                stop = Stop::Requested(Instant::now() + grace_period);
                // Fails if the group has ended.
                let _ = kill_process_group(child, Signal::TERM);
            } else {
                // Not the process group first: the launcher must outlive the program, in case the guard is killed here.
                end_descendants();
                return Ok(KILLED);
            }
        }
    };
    let _ = kill_process_group(child, Signal::KILL);
    end_descendants();
    Ok(exit_code(status))
}

/// Waits until the gateway has ended.
async fn end_of(gateway: &mut Option<pipe::Receiver>) {
    if let Some(gateway) = gateway {
        // It writes nothing, and an error means that the pipe cannot be used any more.
        let _ = gateway.read(&mut [0]).await;
    }
}

/// Whether the child is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    NotRequested,
    /// With the time at which the grace period is over.
    Requested(Instant),
}

/// Starts a child as the leader of a process group. The kernel sends it `when_parent_ends` if this process ends first.
fn start(mut command: Command, when_parent_ends: Signal) -> std::io::Result<Pid> {
    let parent = getpid();
    command.process_group(0);
    #[expect(
        unsafe_code,
        reason = "the only way to have the kernel tell the child of the end of its parent"
    )]
    // SAFETY: only system calls are made between fork and exec, and they are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(when_parent_ends))?;
            // The parent may have been killed before this was set.
            if getppid() != Some(parent) {
                return Err(std::io::ErrorKind::NotConnected.into());
            }
            Ok(())
        });
    }
    let child = command.spawn().map_err(|error| {
        let program = Path::new(command.get_program()).display();
        std::io::Error::new(error.kind(), format!("cannot start {program}: {error}"))
    })?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| std::io::Error::other("the child has no process id"))
}

/// Reaps every process that has ended, and returns the status of the child if it is one of them.
fn reap(child: Pid) -> Option<WaitStatus> {
    while let Ok(Some((id, status))) = wait(WaitOptions::NOHANG) {
        if id == child {
            return Some(status);
        }
    }
    None
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|number| 128 + number));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(KILLED)
}

/// The variable of the probe key: whoever has it can ask what the hops in front have decided.
const NOT_FOR_THE_APP: &str = "FLUXLIT_PROBE_KEY";

/// The error when a launcher cannot be started.
pub(super) const NOT_AVAILABLE: &str =
    "the program must call `fluxlit_gateway::launch_if_requested` first";

/// Set by a program that can be a launcher.
static IS_AVAILABLE: AtomicBool = AtomicBool::new(false);

/// The exit code of a shell for a program that it cannot start.
const CANNOT_START: u8 = 127;

/// 128 and the number of SIGKILL.
const KILLED: u8 = 137;

/// A deadline that is never reached.
const FAR: Duration = Duration::from_hours(24);
