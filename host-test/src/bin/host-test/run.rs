//! Implements `host-test run`: runs cases and test suites on a filter and reports mismatches.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use host_test::case_file::{Case, CaseFile, Runner, Schedule};
use host_test::suite::Suite;

use crate::exit::Exit;
use crate::loading::{self, CaseFiles, FilterOptions, count};
use crate::progress::Progress;
use crate::report::{self, Report, ReportedCase, Verdict};

/// Run cases on a filter and report mismatches
///
/// Reads case files, and test suites of Google Cloud's Service Extensions (tests.textpb or YAML). Exits with 1 if a case
/// missed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    filter: FilterOptions,
    /// Run the cases of these files, or of the *.json files of these folders
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    cases: Vec<PathBuf>,
    /// Give the filter this configuration, JSON text that begins with `{` or a file, if a case file has none
    #[arg(long, value_name = "FILE_OR_JSON")]
    config: Option<String>,
    /// Run every case under these frame schedules: `all`, or some of empty-last, one-frame, bytes, halves, open-headers,
    /// trailers
    #[arg(long, num_args = 1.., value_name = "SCHEDULE", default_value = "empty-last")]
    schedules: Vec<String>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Write a JUnit report to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = arguments.config.as_deref();
    let (files, suites) = load(&arguments.cases, config)?;
    let schedules = schedules(&arguments.schedules)?;
    let runner = arguments.filter.runner()?;
    let mut report = Report::default();
    let tests: usize = suites.iter().map(|(_, suite)| suite.tests.len()).sum();
    let progress =
        Progress::start_counted("running cases", count(&files) * schedules.len() + tests);
    for (path, file) in &files {
        for case in &file.cases {
            for schedule in &schedules {
                report.add(run_case(&runner, path, file, case, *schedule));
                progress.advance();
            }
        }
    }
    if !suites.is_empty() {
        let config = config.map(loading::configuration).transpose()?;
        for (path, suite) in &suites {
            for test in &suite.tests {
                report.add(ReportedCase {
                    file: path.display().to_string(),
                    case: test.name.clone(),
                    why: String::new(),
                    schedule: None,
                    verdict: Verdict::from_mismatches(suite.mismatches(
                        runner.filter(),
                        config.as_deref(),
                        test,
                    )),
                });
                progress.advance();
            }
        }
    }
    drop(progress);
    if let Some(path) = &arguments.junit {
        std::fs::write(path, report.to_junit())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    report::print(&if arguments.json {
        report.to_json()
    } else {
        report.to_text()
    })?;
    Ok(report.exit())
}

/// Test suites with their paths.
type Suites = Vec<(PathBuf, Suite)>;

fn load(paths: &[PathBuf], config: Option<&str>) -> anyhow::Result<(CaseFiles, Suites)> {
    let (suites, files): (Vec<PathBuf>, Vec<PathBuf>) = paths
        .iter()
        .cloned()
        .partition(|path| Suite::is_suite(path));
    let suites = suites
        .into_iter()
        .map(|path| {
            let suite = Suite::load(&path)?;
            Ok((path, suite))
        })
        .collect::<anyhow::Result<Suites>>()?;
    let files = if suites.is_empty() {
        loading::cases(&files, config)?
    } else {
        loading::case_files(&files, config)?
    };
    Ok((files, suites))
}

fn schedules(names: &[String]) -> anyhow::Result<Vec<Schedule>> {
    if names.iter().any(|name| name == "all") {
        return Ok(Schedule::ALL.to_vec());
    }
    names
        .iter()
        .map(|name| {
            let names = Schedule::ALL.map(Schedule::name).join(", ");
            Schedule::named(name)
                .with_context(|| format!("--schedules: `{name}` is not one of all, {names}"))
        })
        .collect()
}

fn run_case(
    runner: &Runner,
    path: &Path,
    file: &CaseFile,
    case: &Case,
    schedule: Schedule,
) -> ReportedCase {
    let verdict = match case.except.get("wasm") {
        Some(reason) => Verdict::Skipped(reason.clone()),
        None => match runner.mismatches(path, file, case, schedule) {
            Ok(mismatches) => Verdict::from_mismatches(mismatches),
            Err(error) => Verdict::Missed(vec![format!("{:#}", anyhow::Error::from(error))]),
        },
    };
    ReportedCase {
        file: path.display().to_string(),
        case: case.name.clone(),
        why: case.why.clone(),
        schedule: (schedule != Schedule::default()).then(|| schedule.name()),
        verdict,
    }
}
