//! Reads the descendants of a process, and the CPU time of its threads.

use std::time::Duration;

use anyhow::Context;

/// Returns all descendants of a process, as the kernel lists them.
pub(crate) fn descendants_of(id: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        for task in std::fs::read_dir(format!("/proc/{id}/task"))?.flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
            {
                found.push(child);
                open.push(child);
            }
        }
    }
    Ok(found)
}

/// A thread of a process.
pub(crate) struct Task {
    pub(crate) is_running: bool,
    /// CPU time so far, in user space and in the kernel. The kernel updates it when the thread stops running.
    pub(crate) spent: Duration,
}

/// Returns the threads of a process, except those that end meanwhile.
pub(crate) fn tasks(id: u32) -> anyhow::Result<Vec<Task>> {
    let mut tasks = Vec::new();
    let listed = std::fs::read_dir(format!("/proc/{id}/task"));
    for task in listed.context("a measured process has ended")? {
        let path = task?.path();
        let Ok(state) = std::fs::read_to_string(path.join("stat")) else {
            continue;
        };
        let times = std::fs::read_to_string(path.join("schedstat"))
            .context("this kernel does not count a thread's CPU time in nanoseconds")?;
        let spent = times
            .split_whitespace()
            .next()
            .and_then(|field| field.parse().ok())
            .context("cannot read schedstat")?;
        tasks.push(Task {
            // The name before the state may contain any characters, but is in parentheses.
            is_running: state
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('R')),
            spent: Duration::from_nanos(spent),
        });
    }
    Ok(tasks)
}
