//! `host-test record` and `host-test replay`: does the filter still do what it did?
//!
//! A recording is a case file whose expectations are what happened, complete. It can be read, edited, and run like any
//! other; `replay` runs it and names whatever differs.

use std::io::Write as _;
use std::path::PathBuf;

use host_test::case_file::{CaseFile, Runner, Schedule};

use super::Ending;
use super::loading::Loading;
use super::report::{self, CaseEnding, CaseResult};
use super::run::load_cases;

/// Run the requests of cases and print a case file that expects exactly what happened
#[derive(clap::Args)]
pub(super) struct RecordArguments {
    #[command(flatten)]
    loading: Loading,
    /// Take the requests of this case file
    #[arg(long, value_name = "PATH")]
    cases: PathBuf,
    /// Give the filter this configuration, JSON text that begins with `{` or a file, if the file of cases has none
    #[arg(long, value_name = "FILE_OR_JSON")]
    config: Option<String>,
}

/// Run recordings and say what differs
///
/// Ends with 1 if anything does.
#[derive(clap::Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    loading: Loading,
    /// Replay these recordings, or the *.json files of these folders
    #[arg(required = true, value_name = "PATH")]
    recordings: Vec<PathBuf>,
}

pub(super) fn record(arguments: &RecordArguments) -> anyhow::Result<Ending> {
    let files = load_cases(
        std::slice::from_ref(&arguments.cases),
        arguments.config.as_deref(),
        true,
    )?;
    let mut runner = Runner::new(arguments.loading.load()?);
    runner.options.profile = arguments.loading.rules.profile;
    runner.load_options = arguments.loading.rules.load_options();
    for (path, file) in &files {
        let recorded = CaseFile {
            cases: file
                .cases
                .iter()
                .map(|case| {
                    let ran = runner.run(path, file, case, Schedule::default())?;
                    Ok(ran.recorded(case))
                })
                .collect::<anyhow::Result<_>>()?,
            ..file.clone()
        };
        std::io::stdout().write_all(recorded.to_text().as_bytes())?;
    }
    Ok(Ending::Done)
}

pub(super) fn replay(arguments: &ReplayArguments) -> anyhow::Result<Ending> {
    let files = load_cases(&arguments.recordings, None, true)?;
    let mut runner = Runner::new(arguments.loading.load()?);
    runner.options.profile = arguments.loading.rules.profile;
    runner.load_options = arguments.loading.rules.load_options();
    let mut results = Vec::new();
    for (path, file) in &files {
        for case in &file.cases {
            let misses = runner.misses(path, file, case, Schedule::default())?;
            results.push(CaseResult {
                file: path.display().to_string(),
                case: case.name.clone(),
                why: case.why.clone(),
                schedule: None,
                ending: if misses.is_empty() {
                    CaseEnding::Met
                } else {
                    CaseEnding::Missed(misses)
                },
            });
        }
    }
    std::io::stdout().write_all(report::to_text(&results).as_bytes())?;
    Ok(if results.iter().any(CaseResult::has_missed) {
        Ending::Failed
    } else {
        Ending::Done
    })
}
