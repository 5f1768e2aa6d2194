//! Counts what one exchange costs the gateway: instructions, system calls, clock readings and allocations.
//!
//! The counts are the same on every machine with the same toolchain, busy or not, so a test compares them
//! with those of the repository. The gateway runs under callgrind, with one worker. Client, gateway and upstream take
//! turns: each waits until the gateway waits for it, so that the gateway finds the same events in the same order every
//! time. Only the thread of the worker is counted.
//!
//! The counts leave out what instructions cost and what the kernel does in a system call; `cargo xtask bench gateway`
//! measures time.

mod counts;
mod exchanges;
mod http2;
mod origin;
mod servers;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use fluxlit_support::process::Process;

use self::counts::{Counts, Table};
use self::exchanges::{EXCHANGES, Exchange};
use self::origin::Origin;
use self::servers::{GATEWAY, NGINX, Server, Variant};
use crate::bench::callgrind::{self, Callgrind};
use crate::steps::{root, target};

/// What to count, and what to do with the counts.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Count nginx too, with the same exchanges and similar work
    #[arg(long)]
    nginx: bool,
    /// Write the gateway's counts to the file with which the test compares them
    #[arg(long)]
    update: bool,
}

/// Counts all exchanges, prints them, and compares those of the gateway with the counts of the repository.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let gateway = of_gateway()?;
    println!("{}", gateway.as_text("gateway"));
    if options.nginx {
        println!("{}", count(&NGINX)?.as_text("nginx"));
    }
    if options.update {
        let path = recorded_path();
        return std::fs::write(&path, gateway.as_json())
            .with_context(|| format!("cannot write {}", path.display()));
    }
    compare(&gateway)
}

/// Counts all exchanges of the gateway, and fails if one costs more than recorded.
pub(crate) fn check() -> anyhow::Result<()> {
    let gateway = of_gateway()?;
    eprintln!("{}", gateway.as_text("gateway"));
    compare(&gateway)
}

/// Returns why nothing can be counted on this machine, if that is so.
pub(crate) fn obstacle() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the recorded counts are of x86-64".to_owned());
    }
    callgrind::obstacle()
}

/// Carries out all exchanges with an executable of the gateway, without counting.
pub(crate) fn exercise(program: &Path) -> anyhow::Result<()> {
    for variant in Variant::ALL {
        let folder = target().join("bench/exercise").join(variant.label());
        std::fs::create_dir_all(&folder).context("cannot write under target/")?;
        let mut origin = Origin::serve()?;
        let (mut command, addresses) =
            (GATEWAY.command)(program, variant, &folder, origin.address)?;
        command
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("stderr"))?);
        let mut process = Process::start(command).context("cannot run the gateway")?;
        addresses.wait_until_served(|| {
            let ended = process.ended()?;
            ensure!(
                ended.is_none(),
                "the gateway has ended; see {}",
                folder.display()
            );
            Ok(())
        })?;
        for exchange in EXCHANGES.iter().filter(|one| one.variant == variant) {
            eprintln!("{} …", exchange.name);
            let mut once = (exchange.open)(&addresses, &mut origin)?;
            for _ in 0..EXERCISES {
                once().context(exchange.name)?;
            }
        }
    }
    Ok(())
}

fn of_gateway() -> anyhow::Result<Table> {
    if let Some(obstacle) = obstacle() {
        anyhow::bail!(obstacle);
    }
    count(&GATEWAY)
}

fn compare(counted: &Table) -> anyhow::Result<()> {
    let path = recorded_path();
    let recorded = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let recorded = Table::from_json(&recorded).with_context(|| format!("in {}", path.display()))?;
    let difference = counted.compare(&recorded);
    for line in &difference.cheaper {
        eprintln!("cheaper: {line}");
    }
    if !difference.cheaper.is_empty() {
        eprintln!("record the lower counts: {UPDATE}");
    }
    ensure!(
        difference.dearer.is_empty(),
        "the gateway costs more than recorded:\n  {}\nremove the cost, or record it if it is worth it: {UPDATE}\nif every exchange costs more, the profile may be out of date, as after an update of a dependency: cargo xtask profile",
        difference.dearer.join("\n  ")
    );
    Ok(())
}

fn recorded_path() -> PathBuf {
    root().join("xtask/gateway-cost.json")
}

/// Counts all exchanges with a server. Starts it once for each variant.
fn count(server: &Server) -> anyhow::Result<Table> {
    let program = (server.program)()?;
    let mut table = Table::default();
    for variant in Variant::ALL {
        let folder = target()
            .join("bench/cost")
            .join(server.name)
            .join(variant.label());
        // Files of an earlier run would be taken for those of this one.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).context("cannot write under target/")?;
        let mut origin = Origin::serve()?;
        let (command, addresses) = (server.command)(&program, variant, &folder, origin.address)?;
        let mut callgrind = Callgrind::start(&command, &folder)?;
        addresses.wait_until_served(|| callgrind.check())?;
        origin.watch(&callgrind.thread(server.thread)?);
        for exchange in EXCHANGES.iter().filter(|one| one.variant == variant) {
            eprintln!("{}: {} …", server.name, exchange.name);
            let counts = count_exchange(exchange, &addresses, &mut origin, &mut callgrind);
            let counts = counts.with_context(|| {
                format!(
                    "{}, {}; see {}",
                    server.name,
                    exchange.name,
                    folder.display()
                )
            })?;
            table.add(exchange.name, counts);
        }
    }
    Ok(table)
}

/// Returns the lowest counts of one exchange over several series. What happens seldom, such as a health check, is in none
/// or few of them.
fn count_exchange(
    exchange: &Exchange,
    addresses: &servers::Addresses,
    origin: &mut Origin,
    callgrind: &mut Callgrind,
) -> anyhow::Result<Counts> {
    let mut once = (exchange.open)(addresses, origin)?;
    for _ in 0..WARM_UP {
        once()?;
    }
    callgrind.zero()?;
    let mut lowest: Option<Counts> = None;
    for _ in 0..SERIES {
        for _ in 0..EXCHANGES_OF_SERIES {
            once()?;
        }
        let counts = Counts::from(callgrind.take()?).divided_by(EXCHANGES_OF_SERIES);
        lowest = Some(lowest.map_or(counts, |lowest| lowest.min(counts)));
    }
    lowest.context("nothing was counted")
}

/// Exchanges before the first series, so that buffers, connections and tables exist.
const WARM_UP: u32 = 50;

/// Number of series.
const SERIES: u32 = 4;

/// Number of exchanges in each series.
const EXCHANGES_OF_SERIES: u32 = 100;

/// Number of exchanges of each kind that are not counted.
const EXERCISES: u32 = 20_000;

/// The command that records the counts.
const UPDATE: &str = "cargo xtask bench gateway-cost --update";
