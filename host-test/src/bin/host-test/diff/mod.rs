//! `host-test diff`: does this host do what real Envoy does?
//!
//! The same cases run here and in an Envoy that is started for the purpose, and what differs is named: in the request
//! that the upstream received, the response that the client got, the calls that other services received, what the
//! filters counted, the properties that they set, and the log lines that the case expects. Fields that Envoy adds for its
//! own hop are left out. Where Envoy agrees with the other profile, the difference is one of that profile's rules.
//!
//! What cannot be played in a real Envoy is skipped, with the reason.

mod admin;
mod bootstrap;
mod certificate;
mod client;
mod compare;
mod content;
mod envoy;
mod logs;
mod plan;
mod process;
mod script;
mod shared_data;
mod surroundings;
mod upstream;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use host_test::case_file::{Case, CaseResult, Ending as CaseEnding, Runner, Schedule};
use host_test::envoy::Profile;

use self::compare::{differences, log_differences, metric_differences};
use self::envoy::{Envoy, Played, Started};
use self::plan::Plan;
use self::process::end_of;
use crate::exit::Exit;
use crate::loading::{self, FilterOptions};
use crate::report;

/// Run cases here and in real Envoy, and say what differs
///
/// Ends with 1 if anything does.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    filter: FilterOptions,
    /// Start this Envoy
    #[arg(long, value_name = "FILE", default_value = "envoy")]
    envoy: PathBuf,
    /// Run the cases of these files, or of the *.json files of these folders
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    cases: Vec<PathBuf>,
    /// Give the filter this configuration, JSON text that begins with `{` or a file, where a file of cases has none
    #[arg(long, value_name = "FILE_OR_JSON")]
    config: Option<String>,
}

pub(crate) fn diff(arguments: &Arguments) -> anyhow::Result<Exit> {
    let files = loading::cases(&arguments.cases, arguments.config.as_deref())?;
    let runner = arguments.filter.runner()?;
    let mut report = Report::default();
    let mut plans = Vec::new();
    for (path, file) in &files {
        for case in &file.cases {
            match Plan::make(&runner, path, file, case)? {
                Ok(plan) => plans.push(plan),
                Err(reason) => report.skip(path, case, &reason),
            }
        }
    }
    let (alone, together): (Vec<&Plan<'_>>, Vec<&Plan<'_>>) =
        plans.iter().partition(|plan| plan.is_alone());
    let mut stage = Stage {
        program: &arguments.envoy,
        module: &std::path::absolute(&arguments.filter.filter)?,
        runner,
        report,
    };
    stage.play(&together)?;
    for plan in alone {
        stage.play(&[plan])?;
    }
    let Report {
        text,
        same,
        differing,
        skipped,
    } = stage.report;
    let text = format!(
        "{text}{same} the same, {differing} differ, {skipped} skipped (host-test / Envoy)\n"
    );
    report::print(&text)?;
    Ok(Exit::failed_if(differing > 0))
}

/// Where cases are played and judged.
struct Stage<'a> {
    program: &'a Path,
    module: &'a Path,
    runner: Runner,
    report: Report,
}

/// What has come of the cases so far.
#[derive(Default)]
struct Report {
    text: String,
    same: usize,
    differing: usize,
    skipped: usize,
}

/// What came of a case in Envoy.
enum There {
    /// Envoy did not start; this is its log.
    Refused(String),
    Served(Played),
}

impl Stage<'_> {
    /// Plays cases in one Envoy. If it refuses to start with all of them, halves of them find out which one it is.
    fn play(&mut self, plans: &[&Plan<'_>]) -> anyhow::Result<()> {
        if plans.is_empty() {
            return Ok(());
        }
        match (plans, Envoy::start(self.program, self.module, plans)?) {
            (_, Started::Up(mut envoy)) => {
                for (number, plan) in plans.iter().enumerate() {
                    match envoy.run(plan) {
                        Ok(Ok(played)) => self.judge(plan, &There::Served(played))?,
                        Ok(Err(reason)) => self.report.skip(plan.path, plan.case, &reason),
                        // It may be gone, and the others need one.
                        Err(error) => {
                            drop(envoy);
                            let found = [format!("it ran / {error:#}")];
                            self.report.differ(plan, &found, None);
                            return self.play(plans.get(number + 1..).unwrap_or_default());
                        }
                    }
                }
                Ok(())
            }
            (_, Started::Refused(log)) if log.trim().is_empty() => {
                anyhow::bail!(
                    "{} ended at once and said nothing: is it an Envoy?",
                    self.program.display()
                )
            }
            ([plan], Started::Refused(log)) => self.judge(plan, &There::Refused(log)),
            (plans, Started::Refused(_)) => {
                let (first, second) = plans.split_at(plans.len() / 2);
                self.play(first)?;
                self.play(second)
            }
        }
    }

    fn judge(&mut self, plan: &Plan<'_>, there: &There) -> anyhow::Result<()> {
        let found = compare(plan, &plan.ran, there);
        if found.is_empty() {
            self.report.same += 1;
            return Ok(());
        }
        let mine = self.runner.options.profile;
        let other = match mine {
            Profile::Envoy => Profile::Spec,
            _ => Profile::Envoy,
        };
        self.runner.options.profile = other;
        let ran = self
            .runner
            .run(plan.path, plan.file, plan.case, Schedule::default());
        self.runner.options.profile = mine;
        let is_rule = compare(plan, &ran?, there).is_empty();
        self.report
            .differ(plan, &found, is_rule.then(|| other.name()));
        Ok(())
    }
}

impl Report {
    fn skip(&mut self, path: &Path, case: &Case, reason: &str) {
        self.skipped += 1;
        self.text.push_str(&format!(
            "skipped  {}: {}: {reason}\n",
            path.display(),
            case.name
        ));
    }

    fn differ(&mut self, plan: &Plan<'_>, differences: &[String], agreeing: Option<&str>) {
        self.differing += 1;
        self.text.push_str(&format!(
            "differs  {}: {}\n",
            plan.path.display(),
            plan.case.name
        ));
        for difference in differences {
            self.text.push_str(&format!("         {difference}\n"));
        }
        if let Some(profile) = agreeing {
            self.text.push_str(&format!(
                "         Envoy does as profile {profile} has it\n"
            ));
        }
    }
}

fn compare(plan: &Plan<'_>, ran: &CaseResult, there: &There) -> Vec<String> {
    match (&ran.ending, there) {
        (CaseEnding::Refused(_), There::Refused(log)) => {
            let missing = plan.case.refused.iter().filter(|text| !log.contains(*text));
            missing
                .map(|text| format!("refused / refused without `{text}`: {}", end_of(log)))
                .collect()
        }
        (CaseEnding::Refused(message), There::Served(_)) => {
            vec![format!("refused: `{message}` / accepted")]
        }
        (CaseEnding::Served(_), There::Refused(log)) => {
            vec![format!("accepted / refused: {}", end_of(log))]
        }
        (CaseEnding::Served(outcomes), There::Served(played)) => {
            let mut called = BTreeMap::new();
            let mut found: Vec<String> = outcomes
                .iter()
                .zip(&played.exchanges)
                .flat_map(|(outcome, seen)| differences(plan, outcome, seen, &mut called))
                .collect();
            found.extend(log_differences(plan, ran, played));
            found.extend(metric_differences(ran, played));
            found
        }
    }
}
