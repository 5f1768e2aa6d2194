//! Sets up, runs and tests this repository, as `cargo xtask COMMAND`.

mod bench;
mod browser;
mod certificates;
mod check;
mod compatibility;
mod configuration_files;
mod containers;
mod dist;
mod embedded;
mod fuzz;
mod image;
mod install;
mod layers;
mod markdown;
mod module_docs;
mod mutants;
mod processes;
mod profile;
mod setup;
mod site;
mod steps;
mod stop;
mod test;
mod up;
mod workflows;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::browser::Browser;
use crate::setup::Features;

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
    /// Run all tests, or the named steps
    ///
    /// Examples: `cargo xtask test cases`, `cargo xtask test browser-caddy --browser webkit`
    Test {
        /// Run only these steps
        #[arg(value_name = "STEP")]
        steps: Vec<String>,
        /// Run the browser steps in these browsers
        #[arg(
            long = "browser",
            value_name = "BROWSER",
            value_enum,
            default_value = "chromium"
        )]
        browsers: Vec<Browser>,
    },
    /// Publish an app in every way that docs/smoke.md lists, with real programs, and print what each guarantees
    ///
    /// Examples: `cargo xtask smoke`, `cargo xtask smoke caddy https`
    Smoke {
        /// Run only the shapes that have each of these words in their names
        #[arg(value_name = "WORD")]
        words: Vec<String>,
    },
    /// Check lock files, formatting, layers, module summaries, configuration files, links, workflows, lints, documentation and licences
    Check {
        /// Run only these checks
        #[arg(value_name = "CHECK")]
        checks: Vec<String>,
    },
    /// Measure what the filter and the gateway cost
    #[command(subcommand)]
    Bench(Bench),
    /// Record how often each part of the gateway runs, by which the compiler optimizes the executables of a release
    ///
    /// Puts the loads of `bench gateway` and `bench gateway-cost` on a gateway with counters, and writes
    /// gateway/profiles/TARGET.profdata. Takes ten minutes, and needs musl-gcc, wrk, h2load and nginx.
    Profile,
    /// Run all fuzz targets, or the named ones; the corpus is kept for the next run
    Fuzz {
        /// Run only these targets
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
        /// Run each target for this many seconds
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Change the code in many small ways, and check that a test notices each; takes an hour or more
    Mutants(mutants::Options),
    /// Write a self-signed certificate and its key for localhost, 127.0.0.1 and portal.example.test
    Certificates {
        /// Write certificate.pem and key.pem to this folder
        folder: PathBuf,
    },
    /// Write an image for a registry
    #[command(subcommand)]
    Image(image::Command),
    /// Build the files of a release under target/dist: filter, executables, chart, schemas, SBOMs, checksums
    ///
    /// Examples: `cargo xtask dist`, `cargo xtask dist filter chart --twice`
    Dist(dist::Options),
    /// Build the documentation as a site, under target/site/html, and follow its links
    Site,
    /// Install and build what the other commands need, under target/
    Setup,
}

#[derive(Subcommand)]
enum Bench {
    /// Measure the filter in Envoy: CPU time per request, compared with an empty filter, header_mutation and Lua
    Filter(bench::filter::Options),
    /// Measure the gateway: CPU time, latency and memory, compared with nginx and other proxies
    Gateway(bench::gateway::Options),
    /// Count what a request and a WebSocket message cost the gateway, and compare with the counts of the repository
    GatewayCost(bench::gateway::cost::Options),
}

#[derive(clap::Args)]
struct Up {
    /// Streamlit script to run instead of the demo
    app: Option<PathBuf>,
    /// Run the filter in the test host, in front of a built-in page; needs neither Python nor Envoy
    #[arg(long, conflicts_with_all = ["app", "tls"])]
    embedded: bool,
    /// Terminate TLS in Envoy with a generated certificate
    #[arg(long)]
    tls: bool,
    /// Listen on this port
    #[arg(long, default_value_t = 10000)]
    port: u16,
    /// Build the programs with the compiled dependencies of the tests
    #[arg(long, hide = true)]
    as_tested: bool,
}

impl Up {
    fn features(&self) -> Features {
        if self.as_tested {
            Features::Tested
        } else {
            Features::Needed
        }
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Up(up) if up.embedded => embedded::run(up.port, up.features()),
        Command::Up(up) => {
            let features = up.features();
            up::run(up.app, up.tls, up.port, features)
        }
        Command::Test { steps, browsers } => test::run(&steps, &browsers),
        Command::Smoke { words } => test::run_shapes(&words),
        Command::Check { checks } => check::run(&checks),
        Command::Bench(Bench::Filter(options)) => bench::filter::run(&options),
        Command::Bench(Bench::Gateway(options)) => bench::gateway::run(&options),
        Command::Bench(Bench::GatewayCost(options)) => bench::gateway::cost::run(&options),
        Command::Profile => profile::record(),
        Command::Fuzz { targets, seconds } => fuzz::run(&targets, seconds),
        Command::Certificates { folder } => certificates::write(&folder),
        Command::Image(image) => image::run(&image),
        Command::Mutants(options) => mutants::run(&options),
        Command::Dist(options) => dist::run(&options),
        Command::Site => {
            site::build().map(|site| println!("{}", site.join("index.html").display()))
        }
        Command::Setup => setup::everything(Features::Needed).map(|_| ()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
