//! Everything one does with this repository, as `cargo xtask COMMAND`.

mod bench;
mod browser;
mod check;
mod embedded;
mod fuzz;
mod processes;
mod setup;
mod steps;
mod stop;
mod test;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set up, run and test FluxLit Edge
#[derive(Parser)]
#[command(arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a Streamlit app behind Envoy, the filter and the gateway, until Ctrl-C
    Up(Up),
    /// Run every test there is; names of steps run only these
    Test {
        /// Run only these steps
        #[arg(value_name = "STEP")]
        steps: Vec<String>,
    },
    /// Check formatting, lints (native and wasm), documentation and licences
    Check,
    /// Measure what the filter and the gateway cost
    #[command(subcommand)]
    Bench(Bench),
    /// Feed the fuzz targets with what they have not seen yet; names run only these
    Fuzz {
        /// Run only these targets
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
        /// How long each target runs
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Install what the other commands need under target/, and nothing else
    Setup,
}

#[derive(Subcommand)]
enum Bench {
    /// The filter inside Envoy: CPU time per request, beside an empty filter, header_mutation and Lua
    Filter(bench::filter::Options),
    /// The gateway: CPU time, latency and memory, beside nginx and other proxies
    Gateway(bench::gateway::Options),
}

#[derive(clap::Args)]
struct Up {
    /// Streamlit script to run instead of the demo
    app: Option<PathBuf>,
    /// Need neither Python nor Envoy: run the filter in the test host, in front of a built-in page
    #[arg(long, conflicts_with_all = ["app", "tls"])]
    embedded: bool,
    /// Terminate TLS in Envoy with a generated certificate
    #[arg(long)]
    tls: bool,
    /// Listen on this port
    #[arg(long, default_value_t = 10000)]
    port: u16,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Up(up) if up.embedded => embedded::run(up.port),
        Command::Up(up) => up::run(up.app, up.tls, up.port),
        Command::Test { steps } => test::run(&steps),
        Command::Check => check::run(),
        Command::Bench(Bench::Filter(options)) => bench::filter::run(&options),
        Command::Bench(Bench::Gateway(options)) => bench::gateway::run(&options),
        Command::Fuzz { targets, seconds } => fuzz::run(&targets, seconds),
        Command::Setup => setup::everything().map(|_| ()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
