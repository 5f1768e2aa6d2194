//! Finds routes to clusters that a bootstrap does not have (a part of F08).
//!
//! Only a bootstrap without CDS is known to have all clusters.

use crate::lint::envoy::{Envoy, Manager};
use crate::lint::presence::clusters;
use crate::outcome::Outcome;

/// Checks the routes of all connection managers.
pub(crate) fn check(envoy: &Envoy, outcome: &mut Outcome) {
    if !envoy.has_all_clusters {
        return;
    }
    let managers = envoy.managers.iter();
    for manager in managers.filter(|manager| !finds_clusters_on_demand(manager)) {
        for (label, route) in manager.forwarding_routes() {
            for name in clusters(route).filter(|name| !envoy.clusters.contains_key(name)) {
                outcome.fail(
                    format!("{label} forwards to cluster `{name}`, which does not exist, so Envoy does not start or responds with 503"),
                    hint(envoy, &name),
                );
            }
        }
    }
}

fn hint(envoy: &Envoy, name: &str) -> String {
    let known: Vec<String> = envoy
        .clusters
        .keys()
        .map(|key| format!("`{key}`"))
        .collect();
    match &known[..] {
        [] => format!("add `{name}` to static_resources.clusters"),
        known => format!(
            "write the name of a cluster of static_resources ({}), or add `{name}` there",
            known.join(", ")
        ),
    }
}

/// Returns true if a filter can ask a server for a cluster that a route names.
fn finds_clusters_on_demand(manager: &Manager) -> bool {
    manager.config.to_string().contains("\"odcds")
}
