//! Runs a proxy-wasm filter without Envoy: the program `host-test`.
//!
//! Data goes to standard output, messages to standard error. [`exit::Exit`] lists the exit codes.

mod bench;
mod diff;
mod exit;
mod fuzz;
mod inspect;
mod loading;
mod man;
mod progress;
mod record;
mod report;
mod run;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::exit::Exit;

/// Run a proxy-wasm filter without Envoy
#[derive(Parser)]
#[command(name = "host-test", version, long_version = LONG_VERSION, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(after_help = BENCH)]
    Bench(bench::Arguments),
    /// Print a script that completes the arguments of this program in a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// Print the script for this shell
        shell: clap_complete::Shell,
    },
    #[command(after_help = DIFF)]
    Diff(diff::Arguments),
    #[command(after_help = FUZZ)]
    Fuzz(fuzz::Arguments),
    #[command(after_help = INSPECT)]
    Inspect(inspect::Arguments),
    #[command(after_help = MAN)]
    Man(man::Arguments),
    #[command(after_help = RECORD)]
    Record(record::RecordArguments),
    #[command(after_help = REPLAY)]
    Replay(record::ReplayArguments),
    #[command(after_help = RUN)]
    Run(run::Arguments),
    #[command(after_help = SERVE)]
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
            let (mut command, mut script) = (Arguments::command(), Vec::new());
            clap_complete::generate(shell, &mut command, "host-test", &mut script);
            report::print(script)?;
            Ok(Exit::Done)
        }
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::Man(arguments) => man::man(&arguments, Arguments::command()),
        Command::Record(arguments) => record::record(&arguments),
        Command::Replay(arguments) => record::replay(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Serve(arguments) => serve::serve(&arguments),
    }
}

/// What follows the name of the program in the output of `--version`; the build script determines the last three.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("FLUXLIT_BUILD_COMMIT"),
    "\ntarget: ",
    env!("FLUXLIT_BUILD_TARGET"),
    "\nfeatures: ",
    env!("FLUXLIT_BUILD_FEATURES"),
);

const EXAMPLES: &str = "\
Examples:
  host-test inspect filter.wasm
  host-test run --filter filter.wasm --cases cases/
  host-test serve --filter filter.wasm --upstream http://127.0.0.1:8080

Exit codes: 0 if the command succeeded, 1 if it found a mismatch, a difference or a failure, 2 if the usage is wrong or a \
file cannot be used.";

const BENCH: &str = "\
Examples:
  host-test bench --filter filter.wasm --cases cases/ --streams 1000
  host-test bench --filter filter.wasm --with-filter before.wasm --json";

const COMPLETIONS: &str = "\
Examples:
  host-test completions bash > /etc/bash_completion.d/host-test
  host-test completions zsh > ~/.zfunc/_host-test";

const DIFF: &str = "\
Examples:
  host-test diff --filter filter.wasm --cases cases/ --envoy /usr/local/bin/envoy";

const FUZZ: &str = "\
Examples:
  host-test fuzz --filter filter.wasm --faults --rounds 100000 > found.json
  host-test fuzz --filter filter.wasm --cases cases/headers.json --seed 7";

const INSPECT: &str = "\
Examples:
  host-test inspect filter.wasm
  host-test inspect filter.wasm --json";

const MAN: &str = "\
Examples:
  host-test man | man -l -
  host-test man --output /usr/local/share/man/man1";

const RECORD: &str = "\
Examples:
  host-test record --filter filter.wasm --cases requests.json > recorded.json";

const REPLAY: &str = "\
Examples:
  host-test replay --filter filter.wasm recorded.json";

const RUN: &str = "\
Examples:
  host-test run --filter filter.wasm --cases cases/
  host-test run --filter filter.wasm --cases tests.textpb --config config.json --junit report.xml
  host-test run --filter filter.wasm --cases cases/ --schedules all";

const SERVE: &str = "\
Examples:
  host-test serve --filter filter.wasm --upstream http://127.0.0.1:8080
  host-test serve --filter filter.wasm --config config.json --upstream http://127.0.0.1:8080 --record seen.json";

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

    #[test]
    fn every_command_has_examples_that_parse() {
        for_each(&Arguments::command(), "host-test", &mut |command, name| {
            let help = command.get_after_help().expect(name).to_string();
            let examples = help
                .lines()
                .filter_map(|line| line.strip_prefix("  host-test "));
            let mut count = 0;
            for example in examples {
                // What follows is for the shell.
                let words = example.split(['|', '>']).next().unwrap_or_default();
                let words = ["host-test"].into_iter().chain(words.split_whitespace());
                let parsed = Arguments::try_parse_from(words);
                assert!(
                    parsed.is_ok(),
                    "{name}: {example}: {}",
                    parsed.err().unwrap()
                );
                count += 1;
            }
            assert!(count > 0, "{name}");
        });
    }

    #[test]
    fn completions_and_manual_pages_have_every_command_and_flag() {
        let mut names = Vec::new();
        for_each(&Arguments::command(), "host-test", &mut |command, name| {
            let flags = command.get_arguments().filter_map(clap::Arg::get_long);
            let flags: Vec<String> = flags.map(str::to_owned).collect();
            names.push((name.replace(' ', "-"), flags));
        });
        for shell in clap::ValueEnum::value_variants() {
            let mut script = Vec::new();
            let shell: &clap_complete::Shell = shell;
            clap_complete::generate(*shell, &mut Arguments::command(), "host-test", &mut script);
            let script = String::from_utf8(script).expect("UTF-8");
            for flag in names.iter().flat_map(|(_, flags)| flags) {
                assert!(script.contains(flag), "{shell}: {flag}");
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        clap_mangen::generate_to(Arguments::command(), folder.path()).expect("pages");
        for (name, flags) in &names {
            let page = std::fs::read_to_string(folder.path().join(format!("{name}.1")));
            // A hyphen is escaped in a manual page.
            let page = page.expect(name).replace("\\-", "-");
            for flag in flags {
                assert!(page.contains(&format!("--{flag}")), "{name}: {flag}");
            }
        }
    }
}
