//! Checks configurations of Envoy, Istio and Envoy Gateway (F01 to F08), as pure functions on documents.
//!
//! ```text
//! text ──▶ documents ──▶ outcome of each check ──▶ findings
//! ```

mod document;
mod envoy;
mod failure;
mod live;
mod local_replies;
mod manifests;
mod offline;
mod outcomes;
mod path;
mod peer_source;
mod presence;
mod settings;
mod sockets;

pub use document::{Document, DocumentError, Manifest, read};
pub use envoy::Envoy;

use std::net::SocketAddr;
use std::path::PathBuf;

use outcomes::Outcomes;

use crate::check::LINT;
use crate::finding::Finding;
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

/// Checks all files together, and asks the admin interface and Envoy itself as far as they are given.
pub async fn run(
    files: &[LintFile],
    options: &LintOptions,
    selection: &CheckSelection,
) -> Vec<Finding> {
    let documents: Vec<&Document> = files.iter().flat_map(|file| &file.documents).collect();
    let mut outcomes = check(&documents);
    live_counters(&documents, options, selection, &mut outcomes).await;
    let is_selected = |id: &str| {
        LINT.iter()
            .any(|check| check.id == id && selection.includes(check))
    };
    for file in files.iter().filter(|_| is_selected("F08")) {
        let is_bootstrap =
            |document: &Document| matches!(document, Document::Envoy(envoy) if !envoy.is_dump);
        match &options.envoy {
            Some(executable) if file.documents.iter().any(is_bootstrap) => {
                offline::check(executable, &file.path, &mut outcomes.offline).await;
            }
            Some(_) => outcomes.offline.skip(format!(
                "{} is no bootstrap, which is all that Envoy can validate",
                file.path.display()
            )),
            None => {}
        }
    }
    let selected = LINT.iter().filter(|check| selection.includes(check));
    selected
        .flat_map(|check| outcomes.take(check.id).findings(check))
        .collect()
}

async fn live_counters(
    documents: &[&Document],
    options: &LintOptions,
    selection: &CheckSelection,
    outcomes: &mut Outcomes,
) {
    let is_selected = LINT
        .iter()
        .any(|check| check.id == "F05" && selection.includes(check));
    let Some(admin) = options.admin.filter(|_| is_selected) else {
        outcomes
            .live
            .skip("the admin interface of the proxy is not given; use --admin");
        return;
    };
    for document in documents {
        match document {
            Document::Envoy(envoy) => live::check(envoy, admin, outcomes).await,
            Document::Manifest(manifest) => outcomes
                .live
                .skip(format!("{} names no listener", manifest.label())),
        }
    }
}

/// Checks the documents themselves.
fn check(documents: &[&Document]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let mut all_manifests = Vec::new();
    for document in documents {
        match document {
            Document::Envoy(envoy) => check_envoy(envoy, &mut outcomes),
            Document::Manifest(manifest) => all_manifests.push(manifest),
        }
    }
    manifests::check(&all_manifests, &mut outcomes);
    outcomes
}

fn check_envoy(envoy: &Envoy, outcomes: &mut Outcomes) {
    presence::check(envoy, &mut outcomes.presence);
    failure::shared_machines(envoy, &mut outcomes.failure);
    for ours in envoy.ours() {
        peer_source::check(&ours, &mut outcomes.peer_source);
        failure::check(&ours, &mut outcomes.failure);
        path::check(&ours, &mut outcomes.path);
        local_replies::check(&ours, &mut outcomes.local_replies);
        sockets::check(envoy, &ours, &mut outcomes.sockets);
        if !ours.filter.config.is_null() {
            settings::check(
                &ours.place(),
                ours.filter.settings_text(),
                &mut outcomes.offline,
            );
        }
    }
}
