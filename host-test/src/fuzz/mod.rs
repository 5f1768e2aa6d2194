//! Searches for inputs with which a filter fails.
//!
//! Requests and responses, the responses of services, their headers, bodies and frames, properties, shared data, queues and
//! times, the plugin configuration, and faults of the host are drawn from a seeded sequence, so the same seed finds the same
//! inputs. A filter must never trap, loop endlessly or leave a message paused. A failing input is minimized part by part
//! while it still fails, and returned as a case for a case file, which needs nothing else to fail again. The search goes on
//! after that, and finds failures at other places. May use `case_file` and everything below it.
//!
//! Not varied: the version of HTTP, the end of a stream before its response, and the order of callbacks.

mod faults;
mod minimize;
mod random;

use std::collections::BTreeSet;
use std::path::Path;

use crate::case_file::{Case, CaseFile, Ending, InjectedFault, Runner, Schedule, Status};
use crate::event::Side;
use crate::vm::Failure;
use crate::vm::outcome::Outcome;

use self::minimize::minimized;
use self::random::{Material, Random, without_expectations};

/// The settings of a search.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed of the sequence.
    pub seed: u64,
    /// The number of inputs to try.
    pub rounds: u32,
    /// Names of fields that the filter probably reads, in addition to common ones.
    pub names: Vec<String>,
    /// True to vary the configurations of the plugin and of the VM as well.
    pub vary_config: bool,
    /// True to inject faults: host functions that return statuses which the proxy could give, and a `malloc` that fails.
    pub faults: bool,
    /// Faults that are not injected.
    pub except: Vec<Exception>,
    /// The search ends after this number of findings.
    pub max_findings: usize,
}

/// Faults that are not injected: all at one point, or those with one status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The name of a host function, or `allocation`.
    pub at: String,
    /// The status; `None` for every status.
    pub status: Option<Status>,
}

/// An input with which the filter failed.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The minimized case.
    pub case: Case,
    /// The schedule of its frames, if the case does not fail with the default one.
    pub schedule: Schedule,
    /// The description of the failure.
    pub reason: String,
}

/// How and where a filter failed, to tell failures apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place(Vec<String>);

/// A failure of the filter.
struct Failed {
    place: Place,
    reason: String,
}

/// Tries inputs, and returns those with which the filter fails, one for each place where it fails. `file` provides the
/// configuration and, as seeds, cases.
///
/// # Errors
///
/// If the filter fails with all seeds as they are.
pub fn fuzz(runner: &Runner, file: &CaseFile, options: &Options) -> Result<Vec<Finding>, String> {
    let (mut seeds, mut first_failure) = (Vec::new(), None);
    for case in &file.cases {
        let seed = without_expectations(case);
        if !seed.refused.is_empty() || seed.request.is_none() && seed.connections.is_empty() {
            continue;
        }
        match failure(runner, file, &seed, Schedule::default()) {
            // What a case is made for, such as a filter that must fail, is not a finding.
            Some(failed) => {
                first_failure.get_or_insert_with(|| format!("`{}`: {}", seed.name, failed.reason));
            }
            None => seeds.push(seed),
        }
    }
    if seeds.is_empty() {
        return Err(match first_failure {
            Some(reason) => format!(
                "the filter fails before anything is varied, with the case {reason}; give --cases with one that passes"
            ),
            None => "no case has a request or connections to start from".to_owned(),
        });
    }
    let material = Material {
        file,
        names: names(file, options),
        seeds,
        varies_config: options.vary_config,
        faults: possible_faults(runner, options),
    };
    let mut random = Random(options.seed);
    let (mut findings, mut places) = (Vec::new(), BTreeSet::new());
    for _ in 0..options.rounds {
        if findings.len() >= options.max_findings {
            break;
        }
        let case = random.case(&material);
        let schedule = random.schedule();
        if let Some(failed) = failure(runner, file, &case, schedule)
            && places.insert(failed.place.clone())
        {
            findings.push(finding(
                runner,
                file,
                case,
                schedule,
                failed,
                findings.len(),
            ));
        }
    }
    Ok(findings)
}

/// Returns the names of fields to use.
fn names(file: &CaseFile, options: &Options) -> Vec<String> {
    let mut names: Vec<String> = random::NAMES.iter().map(|&name| name.to_owned()).collect();
    names.extend(options.names.iter().cloned());
    for exchange in file.cases.iter().flat_map(Case::exchanges) {
        let answer = exchange.answer.headers.iter();
        names.extend((exchange.request.headers.iter().chain(answer)).map(|(name, _)| name.clone()));
    }
    names
}

fn possible_faults(runner: &Runner, options: &Options) -> Vec<InjectedFault> {
    if !options.faults {
        return Vec::new();
    }
    let inspection = runner.filter().inspection();
    let imports: Vec<&str> = inspection
        .imports
        .iter()
        .map(|import| import.name.as_str())
        .collect();
    let exports: Vec<&str> = inspection.exports.iter().map(String::as_str).collect();
    let mut faults = faults::possible(&imports, &exports);
    faults.retain(|fault| {
        !options.except.iter().any(|except| {
            except.at == fault.at && (except.status.is_none() || except.status == fault.status)
        })
    });
    faults
}

/// Minimizes a failing input.
fn finding(
    runner: &Runner,
    file: &CaseFile,
    case: Case,
    schedule: Schedule,
    failed: Failed,
    number: usize,
) -> Finding {
    let fails = |case: &Case, schedule| {
        let found = failure(runner, file, case, schedule);
        found.is_some_and(|found| found.place == failed.place)
    };
    // As frames of the case, so that it fails without options of the command line.
    let framed = schedule.applied_to(&case);
    let (case, schedule) = if fails(&framed, Schedule::default()) {
        (framed, Schedule::default())
    } else {
        (case, schedule)
    };
    let case = minimized(case, |case| fails(case, schedule));
    let reason = failure(runner, file, &case, schedule).map_or(failed.reason, |found| found.reason);
    Finding {
        case: Case {
            name: format!(
                "found {}: {}",
                number + 1,
                failed.place.0.first().map_or("", String::as_str)
            ),
            why: reason.clone(),
            ..case
        },
        schedule,
        reason,
    }
}

/// Returns how the filter fails with an input, if it does. A rejected configuration is not a failure, but a trap at the start
/// is.
fn failure(runner: &Runner, file: &CaseFile, case: &Case, schedule: Schedule) -> Option<Failed> {
    let result = match runner.run(Path::new(""), file, case, schedule) {
        Ok(result) => result,
        Err(error) => return Some(Failed::new("a module of the chain", &error)),
    };
    // After an injected fault the filter may wait for a response that never arrives.
    let plugin = case.plugin.as_ref().or(file.plugin.as_ref());
    let has_fault = plugin.is_some_and(|plugin| !plugin.faults.is_empty());
    match result.ending {
        Ending::Refused(message) => {
            let is_trap = message.contains(" trapped: ") || message.contains(" did not return");
            is_trap.then(|| Failed::new("start", &message))
        }
        Ending::Served(outcomes) => outcomes
            .iter()
            .flat_map(|outcome| &outcome.filters)
            .chain(&result.connections)
            .find_map(|outcome| failure_of(outcome, has_fault))
            .or_else(|| result.failure.as_ref().map(Failed::of)),
    }
}

fn failure_of(outcome: &Outcome, has_fault: bool) -> Option<Failed> {
    if let Some(failure) = &outcome.failure {
        return Some(Failed::of(failure));
    }
    let side = outcome.paused.first().filter(|_| !has_fault)?;
    let side = match side {
        Side::Request => "request left paused",
        Side::Response => "response left paused",
    };
    Some(Failed::new(side, &side))
}

impl Failed {
    fn new(place: &str, reason: &dyn std::fmt::Display) -> Self {
        Self {
            place: Place(vec![place.to_owned()]),
            reason: reason.to_string(),
        }
    }

    fn of(failure: &Failure) -> Self {
        let mut place = vec![failure.callback().to_owned()];
        // The message may contain parts of the input, the functions do not.
        place.extend(failure.stack().iter().take(FRAMES).cloned());
        Self {
            place: Place(place),
            reason: failure.to_string(),
        }
    }
}

/// The number of the guest's functions that tell failures apart. A panic of a Rust module has about ten of its own.
const FRAMES: usize = 14;
