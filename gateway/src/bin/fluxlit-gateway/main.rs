//! Parses the command line of `fluxlit-gateway` and runs one command.
//!
//! Each command has a module with its `Arguments`, whose `after_help` has examples, and a function `run`. Data goes to standard
//! output, messages to standard error. [`exit::Exit`] lists the exit codes.

mod completions;
mod config;
mod config_for;
mod dev;
mod doctor;
mod doctor_probe;
mod doctor_subject;
mod exit;
mod fluxlit_commands;
mod man;
#[cfg(any(target_env = "musl", test))]
mod memory;
mod modules;
mod output;
mod probe;
mod run;
mod script;
mod target;
mod url;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser, Subcommand};
use fluxlit_gateway::LONG_VERSION;

use crate::exit::Exit;

/// Put a Streamlit app on the web: health, forwarded headers, path prefix, WebSocket
#[derive(Parser)]
#[command(
    name = "fluxlit-gateway",
    version,
    long_version = LONG_VERSION,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = EXAMPLES
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Completions(completions::Arguments),
    Config(config::Arguments),
    Dev(dev::Arguments),
    Doctor(doctor::Arguments),
    Man(man::Arguments),
    Probe(probe::Arguments),
    Run(run::Arguments),
    Url(url::Arguments),
}

fn main() -> ExitCode {
    // This program is started again, by the gateway, in front of each child process.
    if let Some(exit) = fluxlit_gateway::launch_if_requested() {
        return exit;
    }
    let command = match Arguments::try_parse() {
        Ok(Arguments { command }) => command,
        Err(error) => return without_command(&error),
    };
    // What serves an app has a setting for the level.
    if !matches!(command, Command::Dev(_) | Command::Run(_)) {
        write_messages("info");
    }
    let exit = run(command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        Exit::of_error(&error)
    });
    exit.into()
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Completions(arguments) => completions::run(&arguments, &mut Arguments::command()),
        Command::Config(arguments) => config::run(arguments),
        Command::Dev(arguments) => dev::run(arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Man(arguments) => man::run(&arguments, Arguments::command()),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Url(arguments) => url::run(arguments),
    }
}

/// Prints the help, the version, or what is wrong with the command line.
fn without_command(error: &clap::Error) -> ExitCode {
    // Nobody can be told that the output is closed.
    let _ = error.print();
    if let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand)
        && let Some(advice) = fluxlit_commands::advice(name)
    {
        eprintln!("\nhint: {advice}");
    }
    // clap knows two codes, those of success and of wrong usage.
    if error.exit_code() == 0 {
        Exit::Done.into()
    } else {
        Exit::Unusable.into()
    }
}

/// Writes log messages to standard error. `directives`: the levels, unless `RUST_LOG` is set.
pub(crate) fn write_messages(directives: &str) {
    // An empty NO_COLOR counts as unset, https://no-color.org/.
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !no_color)
        .with_target(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| directives.into()),
        )
        .init();
}

const EXAMPLES: &str = "\
Examples:
  fluxlit-gateway run app:app
  fluxlit-gateway run app.py
  fluxlit-gateway run --streamlit-upstream http://127.0.0.1:8501 --root-path /apps/my-app
  fluxlit-gateway config
  fluxlit-gateway doctor app.py
  fluxlit-gateway url page /reports --base https://portal.example.com

Exit codes: 0 if the command succeeded, 1 if it failed, 2 if the usage or a setting is wrong.";

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `check` with each command and its full name.
    fn for_each(command: &clap::Command, name: &str, check: &mut impl FnMut(&clap::Command, &str)) {
        check(command, name);
        for below in command.get_subcommands() {
            let name = format!("{name} {}", below.get_name());
            for_each(below, &name, check);
        }
    }

    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        let lines = help.lines().filter_map(|line| line.strip_prefix("  "));
        // Only the program's own part of a line: what follows is for the shell.
        lines
            .map(|line| {
                line.split(['|', '>', '#'])
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
            .filter(|line| line.contains("fluxlit-gateway "))
            .collect()
    }

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        for_each(
            &Arguments::command(),
            "fluxlit-gateway",
            &mut |command, name| {
                let examples = examples(command);
                assert!(!examples.is_empty(), "{name}");
                for example in examples {
                    let words = example.split_whitespace();
                    // Variables may stand in front of the program.
                    let words = words.skip_while(|word| *word != "fluxlit-gateway");
                    let parsed = Arguments::try_parse_from(words);
                    assert!(
                        parsed.is_ok(),
                        "{name}: {example}: {}",
                        parsed.err().unwrap()
                    );
                }
            },
        );
    }

    #[test]
    fn every_command_and_flag_is_described_in_one_style() {
        for_each(
            &Arguments::command(),
            "fluxlit-gateway",
            &mut |command, name| {
                let about = command.get_about().expect(name).to_string();
                let arguments = command.get_arguments().map(|argument| {
                    let help = argument.get_help().map(ToString::to_string);
                    help.unwrap_or_else(|| panic!("{name}: {} has no help", argument.get_id()))
                });
                for text in arguments.chain([about]) {
                    let is_verb = text.starts_with(|letter: char| letter.is_ascii_uppercase());
                    assert!(is_verb && !text.ends_with('.'), "{name}: {text}");
                }
            },
        );
    }
}
