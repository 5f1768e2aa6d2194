//! Implements `host-test fuzz`: searches for inputs on which the filter fails.

use std::path::PathBuf;

use host_test::case_file::{CaseFile, InjectedFault, Schedule, Status};
use host_test::fuzz::{self, Exception, Finding, Options};
use host_test::vm::host_functions;

use crate::exit::Exit;
use crate::loading::{self, FilterOptions, configuration};
use crate::progress::Progress;
use crate::report;

/// Search for requests, responses, configurations and faults of the host on which the filter fails
///
/// Exits with 1 if it finds some, and prints them as a case file, as small as possible, one for each place in the filter.
/// `host-test run` runs that file as it is. Equal seeds give equal results.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    filter: FilterOptions,
    /// Give the filter this configuration: JSON text that begins with `{`, or a file
    #[arg(long, value_name = "FILE_OR_JSON")]
    config: Option<String>,
    /// Start from the cases of this file, with their services, plugins, shared data, queues and exchanges
    #[arg(long, value_name = "PATH")]
    cases: Option<PathBuf>,
    /// Use header fields of these names often
    #[arg(long, num_args = 1.., value_name = "NAME")]
    names: Vec<String>,
    /// Vary the configurations of the plugin and of the VM as well
    #[arg(long)]
    vary_config: bool,
    /// Inject faults: host functions return statuses that do not depend on the filter alone, such as NOT_FOUND of
    /// proxy_get_property, and a `malloc` of the module fails
    #[arg(long)]
    faults: bool,
    /// Do not inject these faults: at a host function or `allocation`, with each status or one, such as
    /// proxy_get_property=NOT_FOUND
    #[arg(long, num_args = 1.., value_name = "NAME[=STATUS]", value_parser = exception)]
    except: Vec<Exception>,
    /// Try this many inputs
    #[arg(long, default_value_t = 10_000)]
    rounds: u32,
    /// Stop after this many failures at different places
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    max_findings: usize,
    /// Start the sequence of inputs with this seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn fuzz(arguments: &Arguments) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        arguments.max_findings > 0,
        "--max-findings: must be at least 1"
    );
    anyhow::ensure!(
        arguments.faults || arguments.except.is_empty(),
        "--except: excludes faults, which are injected only with --faults"
    );
    let mut file = match &arguments.cases {
        Some(path) => {
            let files = loading::cases(std::slice::from_ref(path), None)?;
            anyhow::ensure!(
                files.len() == 1,
                "--cases: {} has several case files; give one of them",
                path.display()
            );
            let first = files.into_iter().next();
            first.map(|(_, file)| file).unwrap_or_default()
        }
        None => CaseFile::of_one_get(),
    };
    if let Some(config) = &arguments.config {
        file.replace_config(&configuration(config)?);
    }
    let runner = arguments.filter.runner()?;
    let options = Options {
        seed: arguments.seed,
        rounds: arguments.rounds,
        names: arguments.names.clone(),
        vary_config: arguments.vary_config,
        faults: arguments.faults,
        except: arguments.except.clone(),
        max_findings: arguments.max_findings,
    };
    let progress = Progress::start("searching for failures");
    let findings = fuzz::fuzz(&runner, &file, &options).map_err(anyhow::Error::msg)?;
    drop(progress);
    if findings.is_empty() {
        eprintln!("tried {} inputs: the filter did not fail", options.rounds);
        return Ok(Exit::Done);
    }
    for Finding {
        case,
        schedule,
        reason,
    } in &findings
    {
        eprintln!("{}\n  the filter failed: {reason}", case.name);
        if *schedule != Schedule::default() {
            eprintln!("  with --schedules {schedule}");
        }
    }
    eprintln!(
        "found {} failures; the cases are a case file for `host-test run`",
        findings.len()
    );
    let found = CaseFile {
        about: "Inputs on which the filter failed.".to_owned(),
        golden: None,
        cases: findings.into_iter().map(|finding| finding.case).collect(),
        ..file
    };
    report::print(found.to_text())?;
    Ok(Exit::Failed)
}

fn exception(text: &str) -> Result<Exception, String> {
    let (at, status) = match text.split_once('=') {
        Some((at, status)) => (at, Some(status)),
        None => (text, None),
    };
    if at != InjectedFault::ALLOCATION && !host_functions().contains(&at) {
        return Err(format!(
            "there is no host function `{at}`; expected one such as `proxy_get_property`, or `allocation`"
        ));
    }
    let status = status
        .map(|status| {
            serde_json::from_value::<Status>(status.into()).map_err(|error| error.to_string())
        })
        .transpose()?;
    Ok(Exception {
        at: at.to_owned(),
        status,
    })
}
