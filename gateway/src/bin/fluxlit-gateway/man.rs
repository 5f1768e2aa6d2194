//! Writes the manual pages: `fluxlit-gateway man`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command};
use clap_mangen::Man;

use crate::exit::Exit;
use crate::output;

/// Print the manual page, or write the pages of all commands to a folder
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Write fluxlit-gateway.1 and a page for each command to this folder, which is created if it does not exist
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// Writes the pages of `program`.
pub(crate) fn run(arguments: &Arguments, program: Command) -> anyhow::Result<Exit> {
    match &arguments.output {
        None => {
            let mut page = Vec::new();
            Man::new(program).render(&mut page)?;
            output::write(page)?;
        }
        Some(folder) => {
            let name = || folder.display();
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot create the folder `{}`", name()))?;
            clap_mangen::generate_to(program, folder)
                .with_context(|| format!("cannot write to the folder `{}`", name()))?;
        }
    }
    Ok(Exit::Done)
}

const EXAMPLES: &str = "\
Examples:
  fluxlit-gateway man | man -l -
  fluxlit-gateway man --output /usr/local/share/man/man1";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory as _;

    use super::*;

    /// Checks the page of a command and those of its subcommands; returns their number.
    fn check(command: &Command, name: &str, folder: &Path) -> usize {
        let page = std::fs::read_to_string(folder.join(format!("{name}.1"))).expect(name);
        // A hyphen is escaped in a manual page.
        let page = page.replace("\\-", "-");
        for argument in command
            .get_arguments()
            .filter(|argument| !argument.is_hide_set())
        {
            let long = argument.get_long().map(|long| format!("--{long}"));
            let word = long.unwrap_or_else(|| argument.get_id().to_string().to_uppercase());
            assert!(
                page.to_uppercase().contains(&word.to_uppercase()),
                "{name}: {word}"
            );
        }
        // clap adds `help`, which has no page.
        let below = command.get_subcommands();
        1 + below
            .filter(|command| command.get_name() != "help")
            .map(|command| check(command, &format!("{name}-{}", command.get_name()), folder))
            .sum::<usize>()
    }

    #[test]
    fn every_command_has_a_page_with_all_of_its_flags() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("new/man1");
        let arguments = Arguments {
            output: Some(output.clone()),
        };
        run(&arguments, crate::Arguments::command()).expect("pages");
        let mut program = crate::Arguments::command();
        program.build();
        let checked = check(&program, "fluxlit-gateway", &output);
        let written = std::fs::read_dir(&output).expect("a folder").count();
        assert_eq!((checked > 3, written), (true, checked));
    }
}
