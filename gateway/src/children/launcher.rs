//! Starts a program, and ends it with all of its processes: on request, when it ends, and when the gateway ends.
//!
//! The launcher runs between the gateway and the program. Its standard input is a pipe that the gateway holds open and never
//! writes to, so the end of the pipe means that the gateway has ended, whatever ended it. SIGTERM, or that end, begins the
//! stop: SIGTERM to the program's process group, and SIGKILL to everything when the grace period is over. A second request
//! ends everything at once.
//!
//! The kernel gives every process that loses its parent to the launcher (`PR_SET_CHILD_SUBREAPER`), which reaps it, and ends
//! those that are left when the program has ended. If the launcher itself is killed, the kernel ends the program, and the
//! gateway the others.
//!
//! The exit code is that of the program, or 128 and the number of the signal that ended it, as in a shell.

use std::ffi::OsString;
use std::io::stdin;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, wait,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::children::processes::end_descendants;

/// Runs the launcher if this process was started as one, and returns its exit code. A program that uses [`Gateway`] to start
/// an app must call this first, because the gateway starts that program again as the launcher.
///
/// [`Gateway`]: crate::Gateway
pub fn launch_if_requested() -> Option<ExitCode> {
    IS_AVAILABLE.store(true, Ordering::Relaxed);
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == REQUEST).then(|| {
        let grace_period = arguments
            .next()
            .and_then(|text| text.into_string().ok()?.parse().ok());
        let command: Vec<OsString> = arguments.collect();
        match grace_period {
            Some(milliseconds) => launch(Duration::from_millis(milliseconds), &command),
            None => fail("it is started by the gateway, not by hand"),
        }
    })
}

/// Returns whether this program can be started as a launcher.
pub(super) fn is_available() -> bool {
    IS_AVAILABLE.load(Ordering::Relaxed)
}

/// Returns the arguments that make this executable a launcher; those of the program follow.
pub(super) fn arguments(grace_period: Duration) -> [String; 2] {
    [REQUEST.to_owned(), grace_period.as_millis().to_string()]
}

fn launch(grace_period: Duration, command: &[OsString]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime.and_then(|runtime| runtime.block_on(run(grace_period, command)));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("fluxlit-gateway: the launcher cannot run: {reason}");
    ExitCode::from(CANNOT_START)
}

async fn run(grace_period: Duration, command: &[OsString]) -> std::io::Result<u8> {
    set_child_subreaper(Some(getpid()))?;
    // Registered before the program starts, so that none is missed.
    let mut ended = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // The terminal has gone. The gateway decides what that means.
    let _hang_up = signal(SignalKind::hangup())?;
    let mut gateway = pipe::Receiver::from_owned_fd(stdin().as_fd().try_clone_to_owned()?)?;
    let program = start(command)?;

    let mut stop = Stop::NotRequested;
    let mut gateway_runs = true;
    let status = loop {
        if let Some(status) = reap(program) {
            break status;
        }
        let deadline = match stop {
            Stop::Requested(deadline) => deadline,
            Stop::NotRequested => Instant::now() + FAR,
        };
        let mut octet = [0];
        let is_requested = tokio::select! {
            _ = ended.recv() => false,
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
            _ = gateway.read(&mut octet), if gateway_runs => {
                gateway_runs = false;
                true
            }
            () = sleep_until(deadline), if stop != Stop::NotRequested => true,
        };
        if is_requested {
            if stop == Stop::NotRequested {
                stop = Stop::Requested(Instant::now() + grace_period);
                // Fails if the group has ended.
                let _ = kill_process_group(program, Signal::TERM);
            } else {
                let _ = kill_process_group(program, Signal::KILL);
                end_descendants();
                return Ok(KILLED);
            }
        }
    };
    let _ = kill_process_group(program, Signal::KILL);
    end_descendants();
    Ok(exit_code(status))
}

/// Whether the program is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    NotRequested,
    /// With the time at which the grace period is over.
    Requested(Instant),
}

/// Starts the program as the leader of a process group.
fn start(command: &[OsString]) -> std::io::Result<Pid> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(std::io::Error::other("no program is named"));
    };
    let launcher = getpid();
    let mut start = Command::new(program);
    start.args(arguments).stdin(Stdio::null()).process_group(0);
    #[expect(
        unsafe_code,
        reason = "the only way to have the kernel end the program with its launcher"
    )]
    // SAFETY: only system calls are made between fork and exec, and they are async-signal-safe.
    unsafe {
        start.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The launcher may have been killed before this was set.
            if getppid() != Some(launcher) {
                return Err(std::io::ErrorKind::NotConnected.into());
            }
            Ok(())
        });
    }
    let child = start.spawn().map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("cannot start {}: {error}", program.display()),
        )
    })?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| std::io::Error::other("the program has no process id"))
}

/// Reaps every child that has ended, and returns the status of the program if it is one of them.
fn reap(program: Pid) -> Option<WaitStatus> {
    while let Ok(Some((id, status))) = wait(WaitOptions::NOHANG) {
        if id == program {
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
pub(super) const NOT_FOR_THE_APP: &str = "FLUXLIT_PROBE_KEY";

/// This executable, even if its file has been replaced.
pub(super) const EXECUTABLE: &str = "/proc/self/exe";

/// The error when a launcher cannot be started.
pub(super) const NOT_AVAILABLE: &str =
    "the program must call `fluxlit_gateway::launch_if_requested` first";

/// The first argument of a launcher. It is no command of the program, so that nobody starts it by accident.
const REQUEST: &str = "--launch-child";

/// Set by a program that can be a launcher.
static IS_AVAILABLE: AtomicBool = AtomicBool::new(false);

/// The exit code of a shell for a program that it cannot start.
const CANNOT_START: u8 = 127;

/// 128 and the number of SIGKILL.
const KILLED: u8 = 137;

/// A deadline that is never reached.
const FAR: Duration = Duration::from_hours(24);
