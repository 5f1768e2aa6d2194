//! `host-test fuzz`: is there an input under which the filter fails?

use std::io::Write as _;
use std::path::PathBuf;

use host_test::case_file::{CaseFile, Runner, Schedule};
use host_test::fuzz::{self, Finding, Options};

use super::Ending;
use super::loading::{Loading, configuration};
use super::run::load_cases;

/// Look for requests, configurations and faults of the host under which the filter fails
///
/// Ends with 1 if there is one, and prints it, made as small as possible, as a case file. The same seed finds the same.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    loading: Loading,
    /// Give the filter this configuration: JSON text that begins with `{`, or a file
    #[arg(long, value_name = "FILE_OR_JSON")]
    config: Option<String>,
    /// Begin with the requests and the configuration of this case file
    #[arg(long, value_name = "PATH")]
    cases: Option<PathBuf>,
    /// Use fields of these names often
    #[arg(long, num_args = 1.., value_name = "NAME")]
    names: Vec<String>,
    /// Vary the configuration, too
    #[arg(long)]
    vary_config: bool,
    /// Let the host fail: each host call with each status, and the module's allocator
    #[arg(long)]
    faults: bool,
    /// Try this many inputs
    #[arg(long, default_value_t = 10_000)]
    rounds: u32,
    /// Start of the sequence
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(super) fn fuzz(arguments: &Arguments) -> anyhow::Result<Ending> {
    let mut file = match &arguments.cases {
        Some(path) => {
            load_cases(std::slice::from_ref(path), None, true)?
                .remove(0)
                .1
        }
        None => CaseFile::of_one_get(),
    };
    if let Some(config) = &arguments.config {
        file.replace_config(&configuration(config)?);
    }
    let mut runner = Runner::new(arguments.loading.load()?);
    runner.options.profile = arguments.loading.rules.profile;
    let options = Options {
        seed: arguments.seed,
        rounds: arguments.rounds,
        names: arguments.names.clone(),
        configuration: arguments.vary_config,
        faults: arguments.faults,
    };
    let finding = fuzz::fuzz(&mut runner, &file, &options).map_err(anyhow::Error::msg)?;
    let Some(finding) = finding else {
        eprintln!("{} inputs, and the filter did not fail", options.rounds);
        return Ok(Ending::Done);
    };
    let Finding {
        case,
        schedule,
        fault,
        reason,
    } = finding;
    eprintln!("the filter failed: {reason}");
    if schedule != Schedule::default() {
        eprintln!("under --schedules {schedule}");
    }
    if let Some(fault) = fault {
        eprintln!("when the host did this: {fault:?}");
    }
    let found = CaseFile {
        about: "An input under which the filter failed.".to_owned(),
        cases: vec![case],
        ..file
    };
    std::io::stdout().write_all(found.to_text().as_bytes())?;
    Ok(Ending::Failed)
}
