//! Measures the CPU time and memory of a proxy with all of its processes.
//!
//! CPU time is the sum over all threads of the process tree, in user space and in the kernel. Memory is that of the
//! largest process: a master shares nearly all of its pages with its worker, so a sum would count them twice.

use std::time::{Duration, Instant};

use anyhow::Context;
use fluxlit_support::wait::wait_until;
use rustix::param::clock_ticks_per_second;

use super::Bench;
use crate::processes;

/// A running measurement.
pub(super) struct Meter {
    id: Option<u32>,
    core: usize,
    started: Instant,
    own: Duration,
    busy: Duration,
}

/// The result of a measurement.
pub(super) struct Spent {
    /// CPU time of the proxy; `None` without one.
    pub(super) cpu: Option<Duration>,
    /// Share of the proxy's core that other processes used, in percent.
    pub(super) others: f64,
}

impl Meter {
    /// Begins to measure; without a proxy, only the use of the core by others is measured.
    pub(super) fn start(bench: &Bench<'_>, id: Option<u32>) -> anyhow::Result<Self> {
        let core = bench.proxy_core;
        Ok(Self {
            id,
            core,
            started: Instant::now(),
            own: own_time(id)?,
            busy: busy(core)?,
        })
    }

    /// Ends the measurement, and waits until the proxy is idle.
    ///
    /// Some proxies keep working on responses whose client has left, which would affect the next measurement.
    pub(super) fn stop(self, bench: &Bench<'_>) -> anyhow::Result<Spent> {
        let elapsed = self.started.elapsed();
        let own = own_time(self.id)?.saturating_sub(self.own);
        let others = busy(self.core)?
            .saturating_sub(self.busy)
            .saturating_sub(own);
        if let Some(id) = self.id {
            wait_until_idle(bench, id)?;
        }
        Ok(Spent {
            cpu: self.id.map(|_| own),
            others: others.as_secs_f64() / elapsed.as_secs_f64() * 100.0,
        })
    }
}

fn own_time(id: Option<u32>) -> anyhow::Result<Duration> {
    id.map_or(Ok(Duration::ZERO), cpu_time)
}

/// Returns the time in which a core was not idle.
fn busy(core: usize) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let name = format!("cpu{core} ");
    let times = stat.lines().find_map(|line| line.strip_prefix(&name));
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user.
    let times = times.with_context(|| format!("/proc/stat has no {name}"))?;
    let ticks = times.split(' ').take(8).enumerate();
    let ticks = ticks.filter(|(index, _)| ![3, 4].contains(index));
    let ticks: u64 = ticks
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(
        ticks * 1000 / clock_ticks_per_second(),
    ))
}

/// Returns the CPU time of a process and its descendants.
fn cpu_time(id: u32) -> anyhow::Result<Duration> {
    let mut spent = Duration::ZERO;
    for id in tree(id)? {
        spent += processes::tasks(id)?
            .iter()
            .map(|task| task.spent)
            .sum::<Duration>();
    }
    Ok(spent)
}

/// Returns the resident memory of the largest process in the tree, in bytes.
pub(super) fn resident(id: u32) -> anyhow::Result<u64> {
    largest(id, "VmRSS:")
}

/// Returns the peak resident memory of the largest process in the tree, in bytes.
pub(super) fn peak(id: u32) -> anyhow::Result<u64> {
    largest(id, "VmHWM:")
}

fn wait_until_idle(bench: &Bench<'_>, id: u32) -> anyhow::Result<()> {
    let mut before = cpu_time(id)?;
    let mut failure = Ok(());
    wait_until(IDLE_LIMIT, || {
        std::thread::sleep(Duration::from_millis(60));
        match cpu_time(id) {
            Ok(now) => {
                let spent = now.saturating_sub(std::mem::replace(&mut before, now));
                spent < IDLE_CPU || bench.stop.is_requested()
            }
            Err(error) => {
                failure = Err(error);
                true
            }
        }
    });
    failure
}

fn largest(id: u32, field: &str) -> anyhow::Result<u64> {
    let mut max = 0;
    for id in tree(id)? {
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))
            .context("a measured process has ended")?;
        let kib: Option<u64> = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .and_then(|value| value.trim().parse().ok());
        max = max.max(kib.with_context(|| format!("cannot read /proc/{id}/status"))? * 1024);
    }
    Ok(max)
}

fn tree(id: u32) -> anyhow::Result<Vec<u32>> {
    let mut ids = processes::descendants_of(id)?;
    ids.push(id);
    Ok(ids)
}

/// CPU time that timers and probes of an idle proxy may use between two checks.
const IDLE_CPU: Duration = Duration::from_millis(1);

/// Maximum time to wait until a proxy is idle.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
