//! `host-test diff`: does this host do what real Envoy does?
//!
//! The same cases run here and in an Envoy that is started for the purpose, and what differs is named: in the request
//! that the upstream received, or the response that the client got. Fields that Envoy adds for its own hop are left out.
//! Where Envoy agrees with the other profile, the difference is one of that profile's rules.
//!
//! What cannot be played over one plain connection is skipped and said so: TLS, peers that are no address, trailers,
//! properties, call-outs, chains, time, and exchanges that do not come to an end.

mod bootstrap;
mod envoy;
mod exchange;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use host_test::Profile;
use host_test::case_file::{Case, CaseFile, Ending as CaseEnding, Ran, Runner, Schedule};

use self::envoy::Envoy;
use self::exchange::{Seen, differences, of_outcome};
use super::Ending;
use super::loading::Loading;
use super::run::load_cases;

/// Run cases here and in real Envoy, and say what differs
///
/// Ends with 1 if anything does.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    loading: Loading,
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

pub(super) fn diff(arguments: &Arguments) -> anyhow::Result<Ending> {
    let files = load_cases(&arguments.cases, arguments.config.as_deref(), true)?;
    let mut runner = Runner::new(arguments.loading.load()?);
    runner.options.profile = arguments.loading.rules.profile;
    let module = std::path::absolute(&arguments.loading.filter)?;
    let mut text = String::new();
    let (mut same, mut differing, mut skipped) = (0, 0, 0);
    let playable: Vec<(&Path, &CaseFile, &Case)> = files
        .iter()
        .flat_map(|(path, file)| {
            file.cases
                .iter()
                .map(move |case| (path.as_path(), file, case))
        })
        .filter(|(path, file, case)| {
            let reason = unplayable(file, case);
            if let Some(reason) = &reason {
                skipped += 1;
                text.push_str(&format!(
                    "skipped  {}: {}: {reason}\n",
                    path.display(),
                    case.name
                ));
            }
            reason.is_none()
        })
        .collect();
    let envoy = Envoy::start(&arguments.envoy, &module, &playable)
        .context("cannot start Envoy with the cases' configurations")?;
    for (number, (path, file, case)) in playable.iter().enumerate() {
        let seen = envoy.run(number, case)?;
        let mut here = |profile| -> anyhow::Result<Vec<String>> {
            runner.options.profile = profile;
            let ran = runner.run(path, file, case, Schedule::default())?;
            Ok(compare(&ran, &seen))
        };
        let found = here(arguments.loading.rules.profile)?;
        if found.is_empty() {
            same += 1;
            continue;
        }
        differing += 1;
        text.push_str(&format!("differs  {}: {}\n", path.display(), case.name));
        for difference in &found {
            text.push_str(&format!("         {difference}\n"));
        }
        let other = match arguments.loading.rules.profile {
            Profile::Envoy => Profile::Spec,
            _ => Profile::Envoy,
        };
        if here(other)?.is_empty() {
            text.push_str(&format!(
                "         Envoy does as profile {} has it\n",
                other.name()
            ));
        }
    }
    text.push_str(&format!(
        "{same} the same, {differing} differ, {skipped} skipped (host-test / Envoy)\n"
    ));
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if differing > 0 {
        Ending::Failed
    } else {
        Ending::Done
    })
}

fn compare(ran: &Ran, seen: &[Seen]) -> Vec<String> {
    match &ran.ending {
        CaseEnding::Refused(message) => vec![format!("refused: `{message}` / accepted")],
        CaseEnding::Served(outcomes) => outcomes
            .iter()
            .zip(seen)
            .flat_map(|(outcome, seen)| differences(&of_outcome(outcome), seen))
            .collect(),
    }
}

/// Why a case cannot be played over a plain connection, if it cannot.
fn unplayable(file: &CaseFile, case: &Case) -> Option<String> {
    if let Some(reason) = case.except.get("envoy").or(case.except.get("wasm")) {
        return Some(reason.clone());
    }
    let setup = case.plugin.as_ref().or(file.plugin.as_ref());
    if !case.upstreams.is_empty() || !file.upstreams.is_empty() {
        return Some("call-outs".to_owned());
    }
    if !file.chain.is_empty() || !case.shared_data.is_empty() {
        return Some("a chain, or shared data".to_owned());
    }
    if setup.is_some_and(|setup| !setup.allowed_capabilities.is_empty()) {
        return Some("restricted capabilities".to_owned());
    }
    if setup.is_some_and(|setup| setup.start_s.is_some()) {
        return Some("a clock of its own".to_owned());
    }
    if case.workers.is_some() || !case.queues.is_empty() {
        return Some("workers, or shared queues".to_owned());
    }
    if case
        .groups()
        .iter()
        .any(|group| !group.alongside.is_empty())
    {
        return Some("exchanges at the same time".to_owned());
    }
    let exchanges = case.exchanges();
    if exchanges.is_empty() {
        return Some("no request".to_owned());
    }
    exchanges.iter().find_map(exchange::unplayable)
}
