//! Runs a proxy-wasm filter without Envoy: the program `host-test`.
//!
//! Data goes to standard output, messages to standard error. [`exit::Exit`] lists the exit codes.

mod bench;
mod diff;
mod exit;
mod fuzz;
mod inspect;
mod loading;
mod record;
mod report;
mod run;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::exit::Exit;

/// Run a proxy-wasm filter without Envoy
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Arguments),
    /// Print a script that completes the arguments of this program in a shell
    Completions {
        /// Print the script for this shell
        shell: clap_complete::Shell,
    },
    Diff(diff::Arguments),
    Fuzz(fuzz::Arguments),
    Inspect(inspect::Arguments),
    Record(record::RecordArguments),
    Replay(record::ReplayArguments),
    Run(run::Arguments),
    Serve(serve::Arguments),
}

fn main() -> ExitCode {
    let exit = run(Arguments::parse().command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        Exit::Unusable
    });
    exit.into()
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "host-test", &mut std::io::stdout());
            Ok(Exit::Done)
        }
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::Record(arguments) => record::record(&arguments),
        Command::Replay(arguments) => record::replay(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Serve(arguments) => serve::serve(&arguments),
    }
}
