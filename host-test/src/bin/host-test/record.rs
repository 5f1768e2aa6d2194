//! Implements `host-test record` and `host-test replay`: records what a filter does and reports when it changes.
//!
//! A recording is a case file that expects exactly what happened. It can be edited and run like any other case file.
//! `replay` runs it and reports every difference.

use std::path::PathBuf;

use host_test::case_file::{CaseFile, Schedule};

use crate::exit::Exit;
use crate::loading::{self, FilterOptions, count};
use crate::progress::Progress;
use crate::report::{self, Report, ReportedCase, Verdict};

/// Run the requests of cases and print a case file that expects exactly what happened
#[derive(clap::Args)]
pub(crate) struct RecordArguments {
    #[command(flatten)]
    filter: FilterOptions,
    /// Take the requests from this case file, or from the *.json files of this folder
    #[arg(long, value_name = "PATH")]
    cases: PathBuf,
    /// Give the filter this configuration, JSON text that begins with `{` or a file, if the case file has none
    #[arg(long, value_name = "FILE_OR_JSON")]
    config: Option<String>,
}

/// Run recordings and report differences
///
/// Exits with 1 if there is one.
#[derive(clap::Args)]
pub(crate) struct ReplayArguments {
    #[command(flatten)]
    filter: FilterOptions,
    /// Replay these recordings, or the *.json files of these folders
    #[arg(required = true, value_name = "PATH")]
    recordings: Vec<PathBuf>,
}

pub(crate) fn record(arguments: &RecordArguments) -> anyhow::Result<Exit> {
    let paths = std::slice::from_ref(&arguments.cases);
    let files = loading::cases(paths, arguments.config.as_deref())?;
    let runner = arguments.filter.runner()?;
    let progress = Progress::start_counted("recording cases", count(&files));
    for (path, file) in &files {
        let recorded = CaseFile {
            cases: file
                .cases
                .iter()
                .map(|case| {
                    let ran = runner.run(path, file, case, Schedule::default())?;
                    progress.advance();
                    Ok(ran.recorded(case))
                })
                .collect::<anyhow::Result<_>>()?,
            // It is compared with nothing but itself.
            golden: None,
            ..file.clone()
        };
        report::print(recorded.to_text())?;
    }
    Ok(Exit::Done)
}

pub(crate) fn replay(arguments: &ReplayArguments) -> anyhow::Result<Exit> {
    let files = loading::cases(&arguments.recordings, None)?;
    let runner = arguments.filter.runner()?;
    let mut report = Report::default();
    let progress = Progress::start_counted("replaying cases", count(&files));
    for (path, file) in &files {
        for case in &file.cases {
            let mismatches = runner.mismatches(path, file, case, Schedule::default())?;
            progress.advance();
            report.add(ReportedCase {
                file: path.display().to_string(),
                case: case.name.clone(),
                why: case.why.clone(),
                schedule: None,
                verdict: Verdict::from_mismatches(mismatches),
            });
        }
    }
    drop(progress);
    report::print(report.to_text())?;
    Ok(report.exit())
}
