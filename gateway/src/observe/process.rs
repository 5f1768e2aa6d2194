//! What does the process itself take?
//!
//! The metrics that Prometheus's own clients export under `process_`, read from procfs when they are asked for. What
//! the system does not say is left out.

use std::fs;

use prometheus_client::metrics::MetricType;
use rustix::process::{Resource, getrlimit};

/// A metric: its name, help, type and value.
pub(super) type Figure = (&'static str, &'static str, MetricType, f64);

/// What the process takes now.
pub(super) fn figures() -> Vec<Figure> {
    use MetricType::{Counter, Gauge};
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let stat = Stat::read(&stat);
    let stat = stat.as_ref();
    let started = fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|system| booted(&system));
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    let open = fs::read_dir("/proc/self/fd").ok();
    let most = getrlimit(Resource::Nofile).current;
    [
        (
            "process_cpu_seconds",
            "CPU time, of user and system",
            Counter,
            stat.map(|stat| stat.cpu_ticks as f64 / ticks),
        ),
        (
            "process_start_time_seconds",
            "When the process was started, since 1970",
            Gauge,
            started
                .zip(stat)
                .map(|(booted, stat)| booted as f64 + stat.start_ticks as f64 / ticks),
        ),
        (
            "process_resident_memory_bytes",
            "Memory that is resident",
            Gauge,
            stat.map(|stat| stat.resident_pages as f64 * page),
        ),
        (
            "process_virtual_memory_bytes",
            "Memory that is mapped",
            Gauge,
            stat.map(|stat| stat.virtual_bytes as f64),
        ),
        (
            "process_open_fds",
            "File descriptors that are open",
            Gauge,
            // One of them is the folder that is being read.
            open.map(|open| open.count().saturating_sub(1) as f64),
        ),
        (
            "process_max_fds",
            "File descriptors that may be open",
            Gauge,
            most.map(|most| most as f64),
        ),
    ]
    .into_iter()
    .filter_map(|(name, help, kind, value)| Some((name, help, kind, value?)))
    .collect()
}

/// What `/proc/self/stat` says, proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(stat: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // The manual counts from one, and two fields are gone.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.saturating_add(field(15)?),
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the system was started, in seconds since 1970.
fn booted(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_program_name_may_hold_anything() {
        let stat = "1 (a) b (c) S 0 1 1 0 -1 4194560 9 9 9 9 150 50 0 0 20 0 3 0 777 4096 12 99";
        let expected = Stat {
            cpu_ticks: 200,
            start_ticks: 777,
            virtual_bytes: 4096,
            resident_pages: 12,
        };
        assert_eq!(Stat::read(stat), Some(expected));
        assert_eq!(Stat::read("1 (a) S 0 1"), None);
        assert_eq!(booted("cpu 1 2 3\nbtime 1790000000\n"), Some(1_790_000_000));
    }

    #[test]
    fn this_process_is_told_truly() {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs_f64();
        let expected = [
            ("process_cpu_seconds", 0.0..1e6),
            // When the system was started is known to the second.
            ("process_start_time_seconds", now - 3600.0..now + 2.0),
            ("process_resident_memory_bytes", 1e5..1e12),
            ("process_virtual_memory_bytes", 1e5..1e16),
            ("process_open_fds", 3.0..1e4),
            ("process_max_fds", 3.0..1e10),
        ];
        let figures = figures();
        assert_eq!(figures.len(), expected.len());
        for ((name, _, _, value), (expected, range)) in figures.into_iter().zip(expected) {
            assert_eq!(name, expected);
            assert!(range.contains(&value), "{name} {value}");
        }
    }
}
