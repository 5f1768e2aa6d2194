//! Reads the resources that the process uses.
//!
//! These are the metrics that Prometheus's own clients export under `process_`. They are read from procfs for each scrape;
//! a value that is not available is left out.

use std::fs;

use procfs::process::Process;
use prometheus_client::metrics::MetricType;
use rustix::process::{Resource, getrlimit};

/// A metric: its name, help, type and value.
pub(super) type ProcessMetric = (&'static str, &'static str, MetricType, f64);

/// Returns the current values.
pub(super) fn metrics() -> Vec<ProcessMetric> {
    use MetricType::{Counter, Gauge};
    let stat = Process::myself().and_then(|process| process.stat()).ok();
    let stat = stat.as_ref();
    let boot_time = procfs::boot_time_secs().ok();
    let ticks = procfs::ticks_per_second() as f64;
    let page = procfs::page_size() as f64;
    let open = fs::read_dir("/proc/self/fd").ok();
    let max = getrlimit(Resource::Nofile).current;
    [
        (
            "process_cpu_seconds",
            "CPU time, of user and system",
            Counter,
            stat.map(|stat| (stat.utime + stat.stime) as f64 / ticks),
        ),
        (
            "process_start_time_seconds",
            "Start time of the process, in seconds since 1970",
            Gauge,
            boot_time
                .zip(stat)
                .map(|(boot_time, stat)| boot_time as f64 + stat.starttime as f64 / ticks),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory",
            Gauge,
            stat.map(|stat| stat.rss as f64 * page),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory",
            Gauge,
            stat.map(|stat| stat.vsize as f64),
        ),
        (
            "process_open_fds",
            "Open file descriptors",
            Gauge,
            // One of them is the directory that is being read.
            open.map(|open| open.count().saturating_sub(1) as f64),
        ),
        (
            "process_max_fds",
            "Maximum open file descriptors",
            Gauge,
            max.map(|max| max as f64),
        ),
    ]
    .into_iter()
    .filter_map(|(name, help, kind, value)| Some((name, help, kind, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_values_of_this_process_are_plausible() {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs_f64();
        let expected = [
            ("process_cpu_seconds", 0.0..1e6),
            // The boot time is known to the second.
            ("process_start_time_seconds", now - 3600.0..now + 2.0),
            ("process_resident_memory_bytes", 1e5..1e12),
            ("process_virtual_memory_bytes", 1e5..1e16),
            ("process_open_fds", 3.0..1e4),
            ("process_max_fds", 3.0..1e10),
        ];
        let metrics = metrics();
        assert_eq!(metrics.len(), expected.len());
        for ((name, _, _, value), (expected, range)) in metrics.into_iter().zip(expected) {
            assert_eq!(name, expected);
            assert!(range.contains(&value), "{name} {value}");
        }
    }
}
