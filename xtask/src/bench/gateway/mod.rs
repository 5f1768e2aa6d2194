//! Measures the cost of the gateway, compared with nginx and other proxies.
//!
//! All proxies run at the same time, each with one worker, on one core; the load generator and the origin run on
//! another core. The proxies are measured one after the other in several rounds. Each figure is compared with nginx's
//! in the same round, so other load on the machine affects all of them equally. The main figure is the CPU time of
//! the proxy's processes, because other load hardly changes it; it does change latency.
//!
//! Figures of different machines or runs are not comparable; ratios within one run are. A missed goal is reported,
//! not a failure.

mod client;
mod configs;
pub(crate) mod cost;
mod file_server;
mod frame;
mod h2load;
mod http;
mod memory;
mod origin;
mod proxies;
mod report;
mod rounds;
mod usage;
mod websocket;
mod wrk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_support::process::Process;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{pin_to, two_cores};
use crate::steps::target;
use crate::stop::Stop;

/// What to measure, how long, and how to print it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Measure only these, and nginx for comparison: direct, nginx-recent, nginx-64k, haproxy, caddy, envoy, fluxlit, ours
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure this executable of the gateway instead of one that is built as for a release
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// Run only these measurements
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "http,tls,websocket,memory"
    )]
    measure: Vec<Measurement>,
    /// Measure each proxy in this many rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measure each proxy for this many seconds in a round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Measurement {
    /// Small and large responses, with few and many connections
    Http,
    /// Resident memory of the gateway and nginx
    Memory,
    /// Responses over TLS, with HTTP/1.1 and HTTP/2
    Tls,
    /// Small and large messages
    Websocket,
}

/// Options and paths that all measurements share.
struct Bench<'a> {
    options: &'a Options,
    /// Core of the proxies.
    proxy_core: usize,
    /// Core of everything else.
    load_core: usize,
    /// Folder for configuration, logs and the files to serve.
    folder: PathBuf,
    stop: Stop,
}

/// Measures the gateway and prints tables.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let report = measure(options)?;
    if options.json {
        println!("{:#}", report.as_json(options));
    } else {
        println!("{}", report.as_text());
    }
    Ok(())
}

/// Puts every load on an executable of the gateway, without a result.
pub(crate) fn exercise(gateway: &Path) -> anyhow::Result<()> {
    measure(&Options {
        only: vec![proxies::OURS.to_owned()],
        gateway: Some(gateway.to_owned()),
        measure: vec![Measurement::Http, Measurement::Tls, Measurement::Websocket],
        rounds: 1,
        seconds: 2,
        json: false,
    })
    .map(drop)
}

fn measure(options: &Options) -> anyhow::Result<report::Report> {
    for name in &options.only {
        ensure!(
            name == proxies::DIRECT || proxies::ALL.iter().any(|proxy| proxy.name == name),
            "unknown proxy `{name}`; expected one of: {}, {}",
            proxies::DIRECT,
            proxies::ALL.map(|proxy| proxy.name).join(", ")
        );
    }
    let stop = Stop::watch()?;
    let programs = proxies::Programs::prepare(options)?;
    raise_file_limit()?;
    let [proxy_core, load_core] = two_cores()?;
    // Processes inherit the core, except the proxies, which are moved to their own.
    pin_to(load_core)?;
    let bench = Bench {
        options,
        proxy_core,
        load_core,
        folder: target().join("bench/gateway"),
        stop,
    };
    std::fs::create_dir_all(&bench.folder).context("cannot write under target/")?;
    let mut report = report::Report::default();
    for measurement in &options.measure {
        report.add(match measurement {
            Measurement::Http => http::measure(&bench, &programs)?,
            Measurement::Tls => http::measure_tls(&bench, &programs)?,
            Measurement::Memory => memory::measure(&bench, &programs)?,
            Measurement::Websocket => websocket::measure(&bench, &programs)?,
        });
    }
    Ok(report)
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || name == proxies::NGINX || self.only.iter().any(|only| only == name)
    }

    fn measures_tls(&self) -> bool {
        self.measure.contains(&Measurement::Tls)
    }
}

impl Bench<'_> {
    /// Fails after a request to stop, so the caller returns and drops every process that it started.
    fn check_stop(&self) -> anyhow::Result<()> {
        ensure!(!self.stop.is_requested(), "stopped");
        Ok(())
    }

    /// Waits until a load generator has ended, and calls `meanwhile` ten times a second. Fails if the program has failed.
    fn wait_for(
        &self,
        process: &mut Process,
        program: &str,
        mut meanwhile: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let status = loop {
            if let Some(status) = process.ended()? {
                break status;
            }
            self.check_stop()?;
            meanwhile()?;
            std::thread::sleep(Duration::from_millis(100));
        };
        ensure!(status.success(), "{program} failed ({status})");
        Ok(())
    }
}

/// Raises the limit of open files to the maximum, for this process and those it starts.
fn raise_file_limit() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // This process holds both ends of the idle WebSockets, and some other files.
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
    #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}
