//! How much CPU time and memory does a proxy use, with all of its processes?
//!
//! CPU time is `utime` and `stime` of the whole tree, to a hundredth of a second, so an interval should last seconds.
//! Memory is that of the largest process: a master shares nearly all of its pages with its worker, and adding them up
//! would count those twice.

use std::time::Duration;

use anyhow::{Context, bail};
use fluxlit_envoy::wait_until;
use rustix::param::clock_ticks_per_second;

use super::Bench;
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

/// The most that it ever was.
pub(super) fn peak(id: u32) -> anyhow::Result<u64> {
    largest(id, "VmHWM:")
}

/// Some go on with answers that nobody waits for any more; the next proxy must not pay for it.
pub(super) fn wait_until_idle(bench: &Bench<'_>, id: u32) -> anyhow::Result<()> {
    let mut before = cpu_time(id)?;
    let mut failure = Ok(());
    wait_until(IDLE_LIMIT, || {
        std::thread::sleep(Duration::from_millis(60));
        match cpu_time(id) {
            Ok(now) => std::mem::replace(&mut before, now) == now || bench.stop.is_asked(),
            Err(error) => {
                failure = Err(error);
                true
            }
        }
    });
    failure
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

/// How long a proxy may take to come to rest.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
