//! What can be done from the command line, and how does it end?
//!
//! Data goes to standard output, messages to standard error. Exit code 0: done; 1: it ran, and something missed; 2:
//! wrong usage, or a file that cannot be used.

mod bench;
mod diff;
mod fuzz;
mod inspect;
mod loading;
mod record;
mod report;
mod run;
mod serve;

use std::error::Error;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

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
    /// Print a script that completes this command's arguments in a shell
    Completions {
        /// For this shell
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

/// How a command ended, unless by an error.
enum Ending {
    Done,
    Failed,
}

fn main() -> ExitCode {
    let ending = match Arguments::parse().command {
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "host-test", &mut std::io::stdout());
            Ok(Ending::Done)
        }
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::Record(arguments) => record::record(&arguments),
        Command::Replay(arguments) => record::replay(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Serve(arguments) => serve::serve(&arguments),
    };
    match ending {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Failed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
