//! Implements `host-test fuzz`: searches for inputs on which the filter fails.

use std::path::PathBuf;

use host_test::case_file::{CaseFile, Schedule};
use host_test::fuzz::{self, Finding, Options};

use crate::exit::Exit;
use crate::loading::{self, FilterOptions, configuration};
use crate::report;

/// Search for requests, configurations and faults of the host on which the filter fails
///
/// Exits with 1 if it finds one, and prints it as a case file, as small as possible. Equal seeds give equal results.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    filter: FilterOptions,
    /// Give the filter this configuration: JSON text that begins with `{`, or a file
    #[arg(long, value_name = "FILE_OR_JSON")]
    config: Option<String>,
    /// Start from the requests and the configuration of this case file
    #[arg(long, value_name = "PATH")]
    cases: Option<PathBuf>,
    /// Use header fields of these names often
    #[arg(long, num_args = 1.., value_name = "NAME")]
    names: Vec<String>,
    /// Vary the configuration as well
    #[arg(long)]
    vary_config: bool,
    /// Inject faults: each host call returns each status, and the allocator of the module fails
    #[arg(long)]
    faults: bool,
    /// Try this many inputs
    #[arg(long, default_value_t = 10_000)]
    rounds: u32,
    /// Start the sequence of inputs with this seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn fuzz(arguments: &Arguments) -> anyhow::Result<Exit> {
    let mut file = match &arguments.cases {
        Some(path) => {
            let files = loading::cases(std::slice::from_ref(path), None)?;
            let first = files.into_iter().next();
            first.map(|(_, file)| file).unwrap_or_default()
        }
        None => CaseFile::of_one_get(),
    };
    if let Some(config) = &arguments.config {
        file.replace_config(&configuration(config)?);
    }
    let mut runner = arguments.filter.runner()?;
    let options = Options {
        seed: arguments.seed,
        rounds: arguments.rounds,
        names: arguments.names.clone(),
        vary_config: arguments.vary_config,
        faults: arguments.faults,
    };
    let finding = fuzz::fuzz(&mut runner, &file, &options).map_err(anyhow::Error::msg)?;
    let Some(finding) = finding else {
        eprintln!("tried {} inputs: the filter did not fail", options.rounds);
        return Ok(Exit::Done);
    };
    let Finding {
        case,
        schedule,
        fault,
        reason,
    } = finding;
    eprintln!("the filter failed: {reason}");
    if schedule != Schedule::default() {
        eprintln!("with --schedules {schedule}");
    }
    if let Some(fault) = fault {
        eprintln!("with the injected fault {fault:?}");
    }
    let found = CaseFile {
        about: "An input on which the filter failed.".to_owned(),
        cases: vec![case],
        ..file
    };
    report::print(&found.to_text())?;
    Ok(Exit::Failed)
}
