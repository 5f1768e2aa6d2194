//! What does an HTTP request cost?
//!
//! Small and large answers, with few and many connections. CPU time is divided by requests where the answer is small, and
//! by bytes where it is large: then requests that are not finished when the time is up count, too.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use fluxlit_envoy::wait_until;

use super::origin::{Files, LARGE, SMALL};
use super::proxies::{Programs, Target, start_all};
use super::usage::{cpu_time, resident};
use super::wrk::{self, Load};
use super::{Bench, usage};

/// A load, and what its CPU time is divided by.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) load: Load,
    pub(super) unit: Unit,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Mebibyte,
    Request,
}

pub(super) const SETTINGS: [Setting; 6] = [
    small("1 KiB, 1 connection", 1),
    small(SMALL_64, 64),
    small("1 KiB, 512 connections", 512),
    large("1 MiB, 1 connection", 1),
    large(LARGE_64, 64),
    large("1 MiB, 512 connections", 512),
];

/// What targets are about.
pub(super) const SMALL_64: &str = "1 KiB, 64 connections";

/// Likewise.
pub(super) const LARGE_64: &str = "1 MiB, 64 connections";

const fn small(name: &'static str, connections: u32) -> Setting {
    Setting {
        name,
        load: Load {
            file: SMALL,
            connections,
        },
        unit: Unit::Request,
    }
}

const fn large(name: &'static str, connections: u32) -> Setting {
    Setting {
        name,
        load: Load {
            file: LARGE,
            connections,
        },
        unit: Unit::Mebibyte,
    }
}

/// One turn of one proxy.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    /// CPU time in µs for each unit; `None` without a proxy.
    pub(super) cpu_us: Option<f64>,
    pub(super) requests_per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Most resident memory that was seen, in bytes; `None` without a proxy.
    pub(super) resident: Option<u64>,
}

/// All turns: by setting, then by proxy, then by round.
pub(super) struct Turns {
    pub(super) names: Vec<&'static str>,
    pub(super) by_setting: Vec<Vec<Vec<Turn>>>,
}

pub(super) fn measure(bench: &Bench<'_>, programs: &Programs, wrk: &Path) -> anyhow::Result<Turns> {
    let files = Files::serve(bench)?;
    eprintln!("starting the proxies …");
    let targets = start_all(bench, programs, files.address)?;
    let names = targets.iter().map(|target| target.name).collect();
    let mut by_setting = vec![vec![Vec::new(); targets.len()]; SETTINGS.len()];
    for round in 0..usize::try_from(bench.options.rounds)? {
        for (setting, by_target) in SETTINGS.iter().zip(&mut by_setting) {
            eprintln!(
                "round {} of {}: {} …",
                round + 1,
                bench.options.rounds,
                setting.name
            );
            for turn in 0..targets.len() {
                // Nobody always follows the same one.
                let index = (turn + round) % targets.len();
                let target = &targets[index];
                let turn = take(bench, wrk, target, setting)
                    .with_context(|| format!("{}, {}", target.name, setting.name))?;
                by_target[index].push(turn);
            }
        }
    }
    Ok(Turns { names, by_setting })
}

fn take(bench: &Bench<'_>, wrk: &Path, target: &Target, setting: &Setting) -> anyhow::Result<Turn> {
    let id = target.id();
    let before = id.map(cpu_time).transpose()?;
    let mut most = None;
    let outcome = wrk::run(bench, wrk, target.address, &setting.load, || {
        most = most.max(id.map(resident).transpose()?);
        Ok(())
    })?;
    let after = id.map(cpu_time).transpose()?;
    if let Some(id) = id {
        wait_until_idle(bench, id)?;
    }
    let units = match setting.unit {
        Unit::Mebibyte => outcome.bytes / f64::from(1 << 20),
        Unit::Request => outcome.requests,
    };
    Ok(Turn {
        cpu_us: before
            .zip(after)
            .map(|(before, after)| after.saturating_sub(before).as_secs_f64() * 1e6 / units),
        requests_per_second: outcome.requests / outcome.seconds,
        p50_ms: outcome.p50_ms,
        p99_ms: outcome.p99_ms,
        resident: most,
    })
}

/// Some go on with answers that nobody waits for any more; the next proxy must not pay for it.
fn wait_until_idle(bench: &Bench<'_>, id: u32) -> anyhow::Result<()> {
    let mut before = usage::cpu_time(id)?;
    let mut failure = Ok(());
    wait_until(IDLE_LIMIT, || {
        std::thread::sleep(Duration::from_millis(60));
        match usage::cpu_time(id) {
            Ok(now) => std::mem::replace(&mut before, now) == now,
            Err(error) => {
                failure = Err(error);
                true
            }
        }
    });
    bench.check_stop()?;
    failure
}

/// How long a proxy may take to come to rest.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
