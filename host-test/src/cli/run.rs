//! `host-test run`: does the filter do what the cases say?

use std::io::Write as _;
use std::path::{Path, PathBuf};

use fluxlit_cases::{Case, CaseFile, Host};
use host_test::{Filter, cases};
use serde_json::{Value, json};

use super::{Ending, chain};

/// Run cases through a filter and say what differs
///
/// Ends with 1 if a case missed.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Run this .wasm file
    #[arg(long)]
    filter: PathBuf,
    /// Run the cases of these files, or of the *.json files of these folders
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    cases: Vec<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Ending> {
    let files = load_cases(&arguments.cases)?;
    let filter = Filter::load(&arguments.filter)?;
    let results: Vec<CaseResult<'_>> = files
        .iter()
        .flat_map(|(path, file)| file.cases.iter().map(move |case| (path, case)))
        .map(|(path, case)| CaseResult {
            path,
            case,
            ending: run_case(&filter, case),
        })
        .collect();
    let text = if arguments.json {
        to_json(&results)
    } else {
        to_text(&results)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    let has_missed = results
        .iter()
        .any(|result| matches!(result.ending, CaseEnding::Missed(_)));
    Ok(if has_missed {
        Ending::Failed
    } else {
        Ending::Done
    })
}

struct CaseResult<'a> {
    path: &'a Path,
    case: &'a Case,
    ending: CaseEnding<'a>,
}

enum CaseEnding<'a> {
    Met,
    Missed(Vec<String>),
    Skipped(&'a str),
}

fn load_cases(paths: &[PathBuf]) -> anyhow::Result<Vec<(PathBuf, CaseFile)>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(CaseFile::load_folder(path)?);
        } else {
            files.push((path.clone(), CaseFile::load(path)?));
        }
    }
    if files.iter().all(|(_, file)| file.cases.is_empty()) {
        anyhow::bail!("there is no case in the given paths");
    }
    Ok(files)
}

fn run_case<'a>(filter: &Filter, case: &'a Case) -> CaseEnding<'a> {
    if let Some(reason) = case.except.get(&Host::Wasm) {
        return CaseEnding::Skipped(reason);
    }
    let misses = match cases::run(filter, case) {
        Ok(outcome) => outcome.misses(case),
        Err(error) => vec![chain(&error)],
    };
    if misses.is_empty() {
        CaseEnding::Met
    } else {
        CaseEnding::Missed(misses)
    }
}

fn to_text(results: &[CaseResult<'_>]) -> String {
    let mut text = String::new();
    let (mut met, mut missed, mut skipped) = (0, 0, 0);
    for CaseResult { path, case, ending } in results {
        let title = format!("{}: {}", path.display(), case.name);
        match ending {
            CaseEnding::Met => met += 1,
            CaseEnding::Missed(misses) => {
                missed += 1;
                text.push_str(&format!("missed   {title}\n         why: {}\n", case.why));
                for miss in misses {
                    text.push_str(&format!(
                        "         {}\n",
                        miss.replace('\n', "\n           ")
                    ));
                }
            }
            CaseEnding::Skipped(reason) => {
                skipped += 1;
                text.push_str(&format!("skipped  {title}: {reason}\n"));
            }
        }
    }
    text.push_str(&format!("{met} met, {missed} missed, {skipped} skipped\n"));
    text
}

fn to_json(results: &[CaseResult<'_>]) -> String {
    let results: Vec<Value> = results
        .iter()
        .map(|CaseResult { path, case, ending }| {
            let (ending, details) = match ending {
                CaseEnding::Met => ("met", json!([])),
                CaseEnding::Missed(misses) => ("missed", json!(misses)),
                CaseEnding::Skipped(reason) => ("skipped", json!([reason])),
            };
            json!({
                "file": path.display().to_string(),
                "case": case.name,
                "ending": ending,
                "details": details,
            })
        })
        .collect();
    format!("{:#}\n", Value::Array(results))
}
