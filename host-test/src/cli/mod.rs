//! What can be done from the command line, and how does it end?
//!
//! Data goes to standard output, messages to standard error. Exit code 0: done; 1: it ran, and something missed; 2:
//! wrong usage, or a file that cannot be used.

mod inspect;
mod run;
mod serve;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Run a proxy-wasm filter without Envoy
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Arguments),
    Run(run::Arguments),
    Serve(serve::Arguments),
}

/// How a command ended, unless by an error.
enum Ending {
    Done,
    Failed,
}

pub(crate) fn main() -> ExitCode {
    let ending = match Arguments::parse().command {
        Command::Inspect(arguments) => inspect::inspect(&arguments),
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
