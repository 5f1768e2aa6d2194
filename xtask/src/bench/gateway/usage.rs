//! How much CPU time and memory does a proxy use, with all of its processes?
//!
//! CPU time is `utime` and `stime` of the whole tree, to a hundredth of a second, so an interval should last seconds.
//! Memory is that of the largest process: a master shares nearly all of its pages with its worker, and adding them up
//! would count those twice.

use std::time::Duration;

use anyhow::{Context, bail};
use rustix::param::clock_ticks_per_second;

use crate::processes::descendants_of;

/// The CPU time of a process and its descendants, including those that have ended.
pub(super) fn cpu_time(id: u32) -> anyhow::Result<Duration> {
    let mut ticks = 0;
    for id in tree(id)? {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))
            .context("a process that is measured has ended")?;
        // The name before it may hold anything but is in parentheses.
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        // utime, stime, and the same of children that were waited for: fields 14 to 17, of which two are cut off.
        let times: Vec<u64> = fields
            .split(' ')
            .skip(11)
            .take(4)
            .map_while(|field| field.parse().ok())
            .collect();
        if times.len() < 4 {
            bail!("cannot read /proc/{id}/stat");
        }
        ticks += times.iter().sum::<u64>();
    }
    let per_second = clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

/// Resident memory of the largest process of the tree, in bytes.
pub(super) fn resident(id: u32) -> anyhow::Result<u64> {
    largest(id, "VmRSS:")
}

fn largest(id: u32, field: &str) -> anyhow::Result<u64> {
    let mut most = 0;
    for id in tree(id)? {
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))
            .context("a process that is measured has ended")?;
        let kib: Option<u64> = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .and_then(|value| value.trim().parse().ok());
        most = most.max(kib.with_context(|| format!("cannot read /proc/{id}/status"))? * 1024);
    }
    Ok(most)
}

fn tree(id: u32) -> anyhow::Result<Vec<u32>> {
    let mut ids = descendants_of(id)?;
    ids.push(id);
    Ok(ids)
}
