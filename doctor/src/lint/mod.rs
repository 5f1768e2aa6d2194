//! Checks configurations of Envoy, Istio and Envoy Gateway (F01 to F08), as pure functions on documents.
//!
//! ```text
//! text ──▶ documents ──▶ outcome of each check ──▶ findings
//! ```
//!
//! A check that has looked at nothing is skipped.

mod attachment;
mod clusters;
mod configuration;
mod context;
mod document;
mod envoy;
mod envoy_gateway;
mod facts;
mod failure;
mod gap;
mod istio;
mod live;
mod local_replies;
mod manifests;
mod message;
mod offline;
mod outcomes;
mod path;
mod peer_source;
mod presence;
mod settings;
mod sockets;
mod target;
mod workloads;

pub use configuration::Configuration;
pub use document::{Document, DocumentError, Manifest, read};
pub use offline::can_start;

use std::net::SocketAddr;
use std::path::PathBuf;

use envoy::Envoy;
use outcomes::Outcomes;

use crate::check::{Check, LINT};
use crate::finding::{Finding, Step};
use crate::selection::CheckSelection;

/// A file with its documents.
#[derive(Debug, Clone)]
pub struct LintFile {
    /// The path.
    pub path: PathBuf,
    /// What it contains.
    pub documents: Vec<Document>,
}

/// What can be asked beside the documents.
#[derive(Debug, Clone, Default)]
pub struct LintOptions {
    /// The admin address of the Envoy whose configuration the documents are.
    pub admin: Option<SocketAddr>,
    /// An executable of Envoy that checks bootstraps.
    pub envoy: Option<PathBuf>,
}

/// Checks all files together, and asks the admin interface and Envoy itself as far as they are given. `step` is told which of
/// these questions begins, and what each check has found.
pub async fn run(
    files: &[LintFile],
    options: &LintOptions,
    selection: &CheckSelection,
    mut step: impl FnMut(Step<'_>),
) -> Vec<Finding> {
    let mut configurations = Vec::new();
    let mut manifests = Vec::new();
    for document in files.iter().flat_map(|file| &file.documents) {
        match document {
            Document::Envoy(configuration) => configurations.push(&**configuration),
            Document::Manifest(manifest) => manifests.push(manifest),
        }
    }
    let envoys = Envoy::all(&configurations);
    let mut outcomes = Outcomes::default();
    for envoy in &envoys {
        check_envoy(envoy, &mut outcomes);
    }
    manifests::check(&manifests, &mut outcomes);
    if let Some(check) = selected("F05", selection) {
        step(Step::Begins(check));
        live_counters(&envoys, &manifests, options, &mut outcomes).await;
    }
    if let Some(check) = selected("F08", selection) {
        step(Step::Begins(check));
        offline(files, options, &mut outcomes).await;
    }
    let mut findings = Vec::new();
    for check in LINT.iter().filter(|check| selection.includes(check)) {
        let outcome = outcomes.take(check.id);
        let found = if outcome.is_empty() {
            vec![Finding::skipped(check, NOTHING)]
        } else {
            outcome.findings(check)
        };
        step(Step::Ended(&found));
        findings.extend(found);
    }
    findings
}

/// Returns a check if it is selected.
fn selected(id: &str, selection: &CheckSelection) -> Option<&'static Check> {
    let check = LINT.iter().find(|check| check.id == id)?;
    selection.includes(check).then_some(check)
}

async fn offline(files: &[LintFile], options: &LintOptions, outcomes: &mut Outcomes) {
    let Some(executable) = &options.envoy else {
        return;
    };
    for file in files {
        let is_bootstrap = |document: &Document| matches!(document, Document::Envoy(configuration) if configuration.is_bootstrap());
        if file.documents.iter().any(is_bootstrap) {
            offline::check(executable, &file.path, &mut outcomes.offline).await;
        } else {
            outcomes.offline.skip(format!(
                "{} is no bootstrap, which is all that Envoy can validate",
                file.path.display()
            ));
        }
    }
}

async fn live_counters(
    envoys: &[Envoy],
    manifests: &[&Manifest],
    options: &LintOptions,
    outcomes: &mut Outcomes,
) {
    let Some(admin) = options.admin else {
        outcomes
            .live
            .skip("the admin interface of the proxy is not given; use --admin");
        return;
    };
    for envoy in envoys {
        live::check(envoy, admin, outcomes).await;
    }
    for manifest in manifests {
        outcomes
            .live
            .skip(format!("{} names no listener", manifest.label()));
    }
}

fn check_envoy(envoy: &Envoy, outcomes: &mut Outcomes) {
    presence::check(envoy, &mut outcomes.presence);
    failure::shared_machines(envoy, &mut outcomes.failure);
    clusters::check(envoy, &mut outcomes.offline);
    for ours in envoy.ours() {
        peer_source::check(&ours, &mut outcomes.peer_source);
        path::check(&ours, &mut outcomes.path);
        local_replies::check(&ours, &mut outcomes.local_replies);
        sockets::check(envoy, &ours, &mut outcomes.sockets);
        if let Some(reason) = ours.is_elsewhere() {
            for outcome in [
                &mut outcomes.peer_source,
                &mut outcomes.failure,
                &mut outcomes.local_replies,
                &mut outcomes.offline,
            ] {
                outcome.skip(reason.as_str());
            }
            continue;
        }
        let place = ours.place();
        failure::check(&place, ours.filter, &mut outcomes.failure);
        settings::check(&place, &ours.filter.settings_text(), &mut outcomes.offline);
    }
    for filter in &envoy.unplaced {
        let place = format!("filter `{}`", filter.name);
        failure::check(&place, filter, &mut outcomes.failure);
        settings::check(&place, &filter.settings_text(), &mut outcomes.offline);
    }
}

const NOTHING: &str = "nothing in these files concerns it";
