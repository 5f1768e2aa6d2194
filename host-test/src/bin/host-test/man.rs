//! Implements `host-test man`: writes the manual pages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap_mangen::Man;

use crate::exit::Exit;
use crate::report;

/// Print the manual page, or write the pages of all commands to a folder
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write host-test.1 and a page for each command to this folder, which is created if it does not exist
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// Writes the pages of `program`.
pub(crate) fn man(arguments: &Arguments, program: clap::Command) -> anyhow::Result<Exit> {
    match &arguments.output {
        None => {
            let mut page = Vec::new();
            Man::new(program).render(&mut page)?;
            report::print(page)?;
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
