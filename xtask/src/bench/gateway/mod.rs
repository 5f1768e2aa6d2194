//! What does the gateway cost, beside nginx and other proxies?
//!
//! All proxies run at once, each with one worker on one core; the load and the origin behind the proxies have another
//! core to themselves. The proxies take turns in several rounds, and each figure is compared with nginx's of the same
//! round, so that whatever else the machine does falls on all of them alike. Chiefly measured is the CPU time of the
//! proxy's processes, which other load on the machine hardly changes; latency it does.
//!
//! The figures of two machines, or of two runs, are not comparable; the ratios within one run are. Nothing fails when a
//! target is missed.

mod client;
mod configs;
mod files;
mod frame;
mod http;
mod memory;
mod origin;
mod proxies;
mod report;
mod turns;
mod usage;
mod websocket;
mod wrk;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::two_cores;
use crate::steps::target;
use crate::stop::Stop;

/// How much to measure, and how to tell it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Measure only these, and nginx, which all are compared with: direct, haproxy, caddy, envoy, fluxlit, ours
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure only this
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "http,websocket,memory"
    )]
    measure: Vec<Measurement>,
    /// Turns that each proxy takes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds that each turn takes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Measurement {
    /// Requests, small and large, with few and many connections
    Http,
    /// Resident memory, of the gateway and nginx
    Memory,
    /// Messages, small and large
    Websocket,
}

/// What all measurements share.
struct Bench<'a> {
    options: &'a Options,
    /// Where the proxies run.
    proxy_core: usize,
    /// Where everything else runs.
    load_core: usize,
    /// Configuration, logs and files to serve.
    folder: PathBuf,
    stop: Stop,
}

/// Measures the gateway and prints tables.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    for name in &options.only {
        ensure!(
            name == proxies::DIRECT || proxies::ALL.iter().any(|proxy| proxy.name == name),
            "there is no proxy `{name}`; there are: {}, {}",
            proxies::DIRECT,
            proxies::ALL.map(|proxy| proxy.name).join(", ")
        );
    }
    let stop = Stop::watch()?;
    let programs = proxies::Programs::prepare(options)?;
    raise_file_limit()?;
    let [proxy_core, load_core] = two_cores()?;
    let bench = Bench {
        options,
        proxy_core,
        load_core,
        folder: target().join("bench/gateway"),
        stop,
    };
    std::fs::create_dir_all(&bench.folder).context("cannot write under target/")?;
    let mut findings = report::Findings::default();
    for measurement in &options.measure {
        findings.add(match measurement {
            Measurement::Http => http::measure(&bench, &programs)?,
            Measurement::Memory => memory::measure(&bench, &programs)?,
            Measurement::Websocket => websocket::measure(&bench, &programs)?,
        });
    }
    if options.json {
        println!("{:#}", findings.as_json(options));
    } else {
        println!("{}", findings.as_text());
    }
    Ok(())
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || name == proxies::NGINX || self.only.iter().any(|only| only == name)
    }
}

impl Bench<'_> {
    /// Fails once somebody has asked to stop, so that everything that was started is ended on the way out.
    fn check_stop(&self) -> anyhow::Result<()> {
        ensure!(!self.stop.is_asked(), "stopped");
        Ok(())
    }
}

/// Lets this process, and those it starts, have as many connections as the system allows.
fn raise_file_limit() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Both ends of the idle WebSockets are open here, and something else is, too.
    let needed = memory::IDLE as u64 * 2 + 1000;
    ensure!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "{needed} open files are needed, but the limit (ulimit -Hn) is lower"
    );
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .context("cannot raise the limit of open files")
}

fn mebibytes(bytes: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "memory is far below 2^52 octets"
    )]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}
