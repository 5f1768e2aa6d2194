//! `host-test run`: does the filter do what the cases say?

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use host_test::case_file::{Case, CaseFile, Runner, Schedule};
use host_test::suite::Suite;

use super::loading::Loading;
use super::report::{self, CaseEnding, CaseResult};
use super::{Ending, chain};

/// Run cases through a filter and say what differs
///
/// Reads case files, and test suites of Google Cloud's Service Extensions (tests.textpb or YAML). Ends with 1 if a case
/// missed.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    loading: Loading,
    /// Run the cases of these files, or of the *.json files of these folders
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    cases: Vec<PathBuf>,
    /// Give the filter this configuration, JSON text that begins with `{` or a file, where a file of cases has none
    #[arg(long, value_name = "FILE_OR_JSON")]
    config: Option<String>,
    /// Run every case under these frame schedules: `all`, or of empty-last, one-frame, bytes, halves, open-headers,
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

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Ending> {
    let (files, suites) = load(&arguments.cases, arguments.config.as_deref())?;
    let schedules = schedules(&arguments.schedules)?;
    let filter = arguments.loading.load()?;
    let mut runner = Runner::new(filter);
    runner.options.profile = arguments.loading.rules.profile;
    runner.load_options = arguments.loading.rules.load_options();
    let mut results = Vec::new();
    for (path, file) in &files {
        for case in &file.cases {
            for schedule in &schedules {
                results.push(run_case(&runner, path, file, case, *schedule));
            }
        }
    }
    let config = arguments.config.as_deref().map(Path::new);
    for (path, suite) in &suites {
        for test in &suite.tests {
            let misses = suite.misses(runner.filter(), config, test);
            results.push(CaseResult {
                file: path.display().to_string(),
                case: test.name.clone(),
                why: String::new(),
                schedule: None,
                ending: ending(misses),
            });
        }
    }
    if let Some(path) = &arguments.junit {
        std::fs::write(path, report::to_junit(&results))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let text = if arguments.json {
        report::to_json(&results)
    } else {
        report::to_text(&results)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if results.iter().any(CaseResult::has_missed) {
        Ending::Failed
    } else {
        Ending::Done
    })
}

type Files = Vec<(PathBuf, CaseFile)>;
type Suites = Vec<(PathBuf, Suite)>;

fn load(paths: &[PathBuf], config: Option<&str>) -> anyhow::Result<(Files, Suites)> {
    let suites = paths
        .iter()
        .filter(|path| Suite::is_suite(path))
        .map(|path| Ok((path.clone(), Suite::load(path)?)))
        .collect::<anyhow::Result<Suites>>()?;
    let files: Vec<PathBuf> = paths
        .iter()
        .filter(|path| !Suite::is_suite(path))
        .cloned()
        .collect();
    let files = load_cases(&files, config, suites.is_empty())?;
    Ok((files, suites))
}

/// Reads case files; there must be a case among them if `is_needed`.
pub(super) fn load_cases(
    paths: &[PathBuf],
    config: Option<&str>,
    is_needed: bool,
) -> anyhow::Result<Files> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(CaseFile::load_folder(path)?);
        } else {
            files.push((path.clone(), CaseFile::load(path)?));
        }
    }
    if is_needed && files.iter().all(|(_, file)| file.cases.is_empty()) {
        anyhow::bail!("there is no case in the given paths");
    }
    if let Some(config) = config {
        for (_, file) in &mut files {
            file.config_by_default(&super::loading::configuration(config)?);
        }
    }
    Ok(files)
}

pub(super) fn schedules(names: &[String]) -> anyhow::Result<Vec<Schedule>> {
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
) -> CaseResult {
    let ending = match case.except.get("wasm") {
        Some(reason) => CaseEnding::Skipped(reason.clone()),
        None => ending(
            runner
                .misses(path, file, case, schedule)
                .unwrap_or_else(|error| vec![chain(&error)]),
        ),
    };
    CaseResult {
        file: path.display().to_string(),
        case: case.name.clone(),
        why: case.why.clone(),
        schedule: (schedule != Schedule::default()).then(|| schedule.name()),
        ending,
    }
}

fn ending(misses: Vec<String>) -> CaseEnding {
    if misses.is_empty() {
        CaseEnding::Met
    } else {
        CaseEnding::Missed(misses)
    }
}
