//! Implements `host-test diff`: compares the test host with real Envoy.
//!
//! The same cases run in the test host and in an Envoy that is started for them. The command compares the request that
//! the upstream received, the response that the client received, the calls that other services received, the metrics
//! and properties that the filters set, and the log lines that the case expects. Fields that Envoy adds for its own hop
//! are left out. If Envoy agrees with the other profile, the difference is one of the rules of that profile.
//!
//! Cases that cannot be played in a real Envoy are skipped, with the reason.
//!
//! The Envoy process, its log and admin interface, clients and upstreams are those of `fluxlit-support`, which the tests
//! of the shipped configuration use as well.

mod bootstrap;
mod compare;
mod envoy;
mod observed;
mod plan;
mod setup;
mod shared_data;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fluxlit_support::service::end_of;
use host_test::case_file::{Case, CaseResult, Ending as CaseEnding, Runner, Schedule};
use host_test::envoy::Profile;

use self::compare::{differences, held_differences, log_differences, metric_differences};
use self::envoy::{EnvoyPlayer, Started};
use self::observed::EnvoyRun;
use self::plan::Plan;
use crate::exit::Exit;
use crate::loading::{self, FilterOptions};
use crate::progress::Progress;
use crate::report;

/// Run cases here and in real Envoy, and report the differences
///
/// Exits with 1 if anything differs.
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
        plans.iter().partition(|plan| plan.needs_own_envoy());
    let mut diff_runner = DiffRunner {
        program: &arguments.envoy,
        module: &std::path::absolute(&arguments.filter.filter)?,
        runner,
        report,
        progress: Progress::start_counted("comparing cases", plans.len()),
    };
    diff_runner.play(&together)?;
    for plan in alone {
        diff_runner.play(&[plan])?;
    }
    let Report {
        text,
        same,
        differing,
        skipped,
    } = diff_runner.report;
    let text = format!(
        "{text}{same} the same, {differing} differ, {skipped} skipped (host-test / Envoy)\n"
    );
    report::print(&text)?;
    Ok(Exit::failed_if(differing > 0))
}

/// Plays cases in Envoy, and compares the results.
struct DiffRunner<'a> {
    program: &'a Path,
    module: &'a Path,
    runner: Runner,
    report: Report,
    progress: Progress,
}

/// The result of all cases so far.
#[derive(Default)]
struct Report {
    text: String,
    same: usize,
    differing: usize,
    skipped: usize,
}

/// The result of a case in Envoy.
enum InEnvoy {
    /// A signal ended Envoy when it started.
    Crashed(i32),
    /// Envoy did not start; this is its log.
    Rejected(String),
    Served(EnvoyRun),
}

impl DiffRunner<'_> {
    /// Plays cases in one Envoy. If it does not start with all of them, they are halved until the case is found that it rejects or that ends it.
    fn play(&mut self, plans: &[&Plan<'_>]) -> anyhow::Result<()> {
        if plans.is_empty() {
            return Ok(());
        }
        match (plans, EnvoyPlayer::start(self.program, self.module, plans)?) {
            (_, Started::Running(mut envoy)) => {
                for (number, plan) in plans.iter().enumerate() {
                    match envoy.run(plan) {
                        Ok(Ok(run)) => self.compare(plan, &InEnvoy::Served(run))?,
                        Ok(Err(reason)) => {
                            self.progress.advance();
                            self.report.skip(plan.path, plan.case, &reason);
                        }
                        // Envoy may have ended, and the other cases need a running one.
                        Err(error) => {
                            let found = [match envoy.crash() {
                                Some(signal) => format!("it ran / {signal} ended Envoy"),
                                None => format!("it ran / {error:#}"),
                            }];
                            drop(envoy);
                            self.progress.advance();
                            self.report.differ(plan, &found, None);
                            return self.play(plans.get(number + 1..).unwrap_or_default());
                        }
                    }
                }
                Ok(())
            }
            (_, Started::Rejected(log)) if log.trim().is_empty() => {
                anyhow::bail!(
                    "{} ended without any output; check that it is an Envoy",
                    self.program.display()
                )
            }
            ([plan], Started::Crashed(signal)) => self.compare(plan, &InEnvoy::Crashed(signal)),
            ([plan], Started::Rejected(log)) => self.compare(plan, &InEnvoy::Rejected(log)),
            (plans, Started::Crashed(_) | Started::Rejected(_)) => {
                let (first, second) = plans.split_at(plans.len() / 2);
                self.play(first)?;
                self.play(second)
            }
        }
    }

    fn compare(&mut self, plan: &Plan<'_>, envoy: &InEnvoy) -> anyhow::Result<()> {
        self.progress.advance();
        let found = differences_of(plan, &plan.ran, envoy);
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
        let is_rule = differences_of(plan, &ran?, envoy).is_empty();
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
                "         Envoy behaves as profile {profile} says\n"
            ));
        }
    }
}

fn differences_of(plan: &Plan<'_>, ran: &CaseResult, envoy: &InEnvoy) -> Vec<String> {
    match (&ran.ending, envoy) {
        (ending, InEnvoy::Crashed(signal)) => {
            let ours = match ending {
                CaseEnding::Refused(_) => "refused",
                CaseEnding::Served(_) => "accepted",
            };
            let signal = envoy::signal_name(*signal);
            vec![format!("{ours} / {signal} ended Envoy when it started")]
        }
        (CaseEnding::Refused(_), InEnvoy::Rejected(log)) => {
            let missing = plan.case.refused.iter().filter(|text| !log.contains(*text));
            missing
                .map(|text| format!("refused / refused without `{text}`: {}", end_of(log)))
                .collect()
        }
        (CaseEnding::Refused(message), InEnvoy::Served(_)) => {
            vec![format!("refused: `{message}` / accepted")]
        }
        (CaseEnding::Served(_), InEnvoy::Rejected(log)) => {
            vec![format!("accepted / refused: {}", end_of(log))]
        }
        (CaseEnding::Served(outcomes), InEnvoy::Served(run)) => {
            let mut called = BTreeMap::new();
            let mut found: Vec<String> = outcomes
                .iter()
                .zip(&run.exchanges)
                .flat_map(|(outcome, observed)| differences(plan, outcome, observed, &mut called))
                .collect();
            found.extend(held_differences(plan, ran, run));
            found.extend(log_differences(plan, ran, run));
            found.extend(metric_differences(ran, run));
            found
        }
    }
}
