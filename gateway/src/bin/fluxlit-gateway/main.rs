//! Parses the command line of `fluxlit-gateway` and runs it.

mod config;
mod run;
mod target;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::target::Target;

/// Put a Streamlit app on the web: health, forwarded headers, path prefix, WebSocket
#[derive(Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve an app: start Streamlit with a script, or proxy to one that is running
    Run(Target),
    /// Print the effective settings and where each comes from
    Config {
        #[command(flatten)]
        target: Target,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .init();
    let (target, print) = match arguments.command {
        Command::Run(target) => (target, None),
        Command::Config { target, json } => (target, Some(json)),
    };
    let (settings, _port) = match target::read_settings(target) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let result = match print {
        Some(json) => config::print_settings(&settings, json),
        None => run::serve(settings),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Exit code for wrong usage or settings.
const WRONG_USAGE: u8 = 2;
