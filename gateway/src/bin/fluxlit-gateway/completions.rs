//! Prints a script for the completion of arguments in a shell: `fluxlit-gateway completions`.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::exit::Exit;
use crate::output;

/// Print a script that completes the arguments of this program in a shell
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print the script for this shell
    shell: Shell,
}

/// Prints the script for `program`.
pub(crate) fn run(arguments: &Arguments, program: &mut Command) -> anyhow::Result<Exit> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, program, name, &mut script);
    output::write(script)?;
    Ok(Exit::Done)
}

const EXAMPLES: &str = "\
Examples:
  fluxlit-gateway completions bash > /etc/bash_completion.d/fluxlit-gateway
  fluxlit-gateway completions zsh > ~/.zfunc/_fluxlit-gateway
  fluxlit-gateway completions fish > ~/.config/fish/completions/fluxlit-gateway.fish";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;

    /// Collects the names of all subcommands and the flags of all commands.
    fn words(command: &Command, words: &mut Vec<String>) {
        for argument in command.get_arguments() {
            words.extend(argument.get_long().map(str::to_owned));
        }
        for below in command.get_subcommands() {
            words.push(below.get_name().to_owned());
            self::words(below, words);
        }
    }

    #[test]
    fn every_shell_completes_every_command_and_flag() {
        let mut program = crate::Arguments::command();
        let mut expected = Vec::new();
        words(&program, &mut expected);
        assert!(expected.iter().any(|word| word == "root-path"));
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut program, "fluxlit-gateway", &mut script);
            let script = String::from_utf8(script).expect("UTF-8");
            for word in &expected {
                assert!(script.contains(word.as_str()), "{shell}: {word}");
            }
        }
    }
}
