//! Finds and ends the processes that a child has started, wherever they are in the process tree.
//!
//! A process group is not enough: a process leaves it with `setsid`, as daemons and `subprocess.Popen(start_new_session=True)`
//! do. The kernel gives the orphans of a guard back to the guard, which therefore finds them among its descendants. If the
//! guard itself was killed, its processes are found by a variable in their environment.

use std::time::Duration;

use procfs::process::all_processes;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait, waitpid};

/// The variable that marks the processes of one guard. Its value is different for each.
pub(super) const MARK: &str = "_FLUXLIT_GATEWAY_CHILD";

/// Kills the descendants of this process, and waits for them. The process must be a child subreaper (prctl(2)).
///
/// The deepest are killed first, so that if this process is killed meanwhile, what is between it and the others ends them.
pub(super) fn end_descendants() {
    loop {
        for id in descendants().into_iter().rev() {
            // Fails if it has ended meanwhile.
            let _ = kill_process(id, Signal::KILL);
        }
        // Each child that ends may leave children of its own to this process.
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(RETRY),
            Err(Errno::INTR) => {}
            // There is no child.
            Err(_) => return,
        }
    }
}

/// Kills every process with this mark, until there is none that can be killed.
pub(super) fn end_marked(mark: &str) {
    loop {
        let mut any = false;
        for id in marked(mark) {
            // Fails for a process that has another user now.
            any |= kill_process(id, Signal::KILL).is_ok();
            // Succeeds only in a container, where the orphans belong to the first process, which may be this one.
            let _ = waitpid(Some(id), WaitOptions::NOHANG);
        }
        if !any {
            return;
        }
        std::thread::sleep(RETRY);
    }
}

fn marked(mark: &str) -> Vec<Pid> {
    let own = std::process::id();
    let processes = all_processes().into_iter().flatten().filter_map(Result::ok);
    processes
        .filter(|process| u32::try_from(process.pid).is_ok_and(|id| id != own))
        // A zombie has no environment, so it does not count.
        .filter(|process| {
            process.environ().is_ok_and(|variables| {
                variables
                    .get(std::ffi::OsStr::new(MARK))
                    .is_some_and(|value| value == mark)
            })
        })
        .filter_map(|process| Pid::from_raw(process.pid))
        .collect()
}

/// Lists the processes below this one, each after its parent, without those that have ended.
fn descendants() -> Vec<Pid> {
    let processes = all_processes().into_iter().flatten().filter_map(Result::ok);
    let parents: Vec<(i32, i32, char)> = processes
        .filter_map(|process| process.stat().ok())
        .map(|stat| (stat.pid, stat.ppid, stat.state))
        .collect();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut found = vec![own];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let children = parents.iter().filter(|(_, of, _)| *of == parent);
        found.extend(children.map(|(id, ..)| *id));
    }
    let has_ended = |id: i32| {
        parents
            .iter()
            .any(|(other, _, state)| *other == id && *state == 'Z')
    };
    let below = found.into_iter().skip(1).filter(|id| !has_ended(*id));
    below.filter_map(Pid::from_raw).collect()
}

/// How long to wait before looking again.
const RETRY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::process::Command;

    use procfs::process::Process;

    use super::*;

    /// They are killed from the end of the list: a guard that is killed meanwhile leaves its launcher alive for as long as there
    /// is a program.
    #[test]
    fn descendants_are_listed_after_their_parents() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000; :"])
            .spawn()
            .unwrap();
        let parent = i32::try_from(shell.id()).unwrap();
        let is_child = |id: &Pid| {
            let stat = Process::new(id.as_raw_nonzero().get()).and_then(|process| process.stat());
            stat.is_ok_and(|stat| stat.ppid == parent)
        };
        // Other tests have children of this process, too.
        let (found, child) = loop {
            let found = descendants();
            if let Some(child) = found.iter().position(is_child) {
                break (found, child);
            }
            std::thread::sleep(RETRY);
        };
        let parent = found
            .iter()
            .position(|id| Pid::from_raw(parent) == Some(*id));
        assert!(parent.is_some_and(|parent| parent < child), "{found:?}");
        kill_process(found[child], Signal::KILL).unwrap();
        shell.wait().unwrap();
    }
}
