//! Measures the cost of the filter and the gateway, compared with other programs that do the same work.
//!
//! All benchmarks share what is here: pinning to separate cores, a typical request, and quartiles.

mod callgrind;
pub(crate) mod filter;
pub(crate) mod gateway;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Returns two cores that this process may use: one for the measured program, one for the load.
fn two_cores() -> anyhow::Result<[usize; 2]> {
    let allowed = sched_getaffinity(None).context("cannot read the CPU affinity")?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    match (cores.next(), cores.next()) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => bail!("two cores are needed: one for the measured program, one for the load"),
    }
}

/// Pins this thread, and every process it starts from now on, to one core.
fn pin_to(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot pin to core {core}"))
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Quartiles of a set of values.
#[derive(Clone, Copy)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

/// Computes the quartiles of at least one value.
fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_unstable_by(f64::total_cmp);
    let at = |quarter: usize| values[(values.len() - 1) * quarter / 4];
    Spread {
        low: at(1),
        median: at(2),
        high: at(3),
    }
}

/// Header lines that a browser sends with a request.
const BROWSER: [&str; 10] = [
    "Host: portal.example.com",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://portal.example.com/apps/my-app/",
    "Cookie: _streamlit_xsrf=2|7586241e|47c8c1d6a2|1700000000; session=0123456789abcdef",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
];

/// Header lines that a proxy in front adds.
const FROM_THE_EDGE: [&str; 2] = ["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"];
