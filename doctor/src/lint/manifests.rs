//! Reads manifests of Istio and Envoy Gateway together, and checks routes (F04, F07).
//!
//! The control plane makes Envoy's configuration of them, and of much else, so a dump of the running proxy says more. All
//! manifests of a run are read together, because the filter, the recorded peer and the guard are in different objects.

use serde_json::Value;

use crate::lint::document::Manifest;
use crate::lint::facts::Facts;
use crate::lint::message::items;
use crate::lint::outcomes::Outcomes;
use crate::lint::path::removed_mounts;
use crate::lint::sockets::duration;
use crate::lint::{envoy_gateway, istio};

/// Checks all manifests of a run.
pub(crate) fn check(manifests: &[&Manifest], outcomes: &mut Outcomes) {
    let facts = Facts::of(manifests);
    for manifest in manifests {
        match manifest.kind.as_str() {
            "WasmPlugin" | "TrafficExtension" => istio::plugin(manifest, &facts, outcomes),
            "EnvoyFilter" => istio::envoy_filter(manifest, outcomes),
            "EnvoyExtensionPolicy" => envoy_gateway::extension_policy(manifest, &facts, outcomes),
            "ClientTrafficPolicy" => {
                envoy_gateway::client_traffic_policy(manifest, &facts, outcomes);
            }
            "HTTPRoute" | "VirtualService" => route(manifest, &facts, outcomes),
            _ => {}
        }
    }
}

/// Checks the rewrites and time limits of a route that is linted together with the filter.
fn route(manifest: &Manifest, facts: &Facts<'_>, outcomes: &mut Outcomes) {
    let label = manifest.label();
    let spec = manifest.spec();
    let mount = facts
        .settings
        .iter()
        .flat_map(|settings| removed_mounts(settings))
        .next();
    let forwards = |rule: &&Value| {
        let mut filters = items(&rule["filters"]);
        rule["redirect"].is_null() && !filters.any(|filter| filter["type"] == "RequestRedirect")
    };
    let rules = items(&spec["rules"]).chain(items(&spec["http"]));
    for rule in rules.filter(forwards) {
        let rewrites = items(&rule["filters"]).any(|filter| {
            filter["type"] == "URLRewrite" && !filter["urlRewrite"]["path"].is_null()
        }) || !rule["rewrite"]["uri"].is_null()
            || !rule["rewrite"]["uriRegexRewrite"].is_null();
        if let (true, Some(mount)) = (rewrites, &mount) {
            outcomes.path.fail(
                format!(
                    "{label} rewrites the path, but the filter removes the mount `{mount}` itself"
                ),
                "remove the rewrite",
            );
        } else if !rewrites && !facts.settings.is_empty() {
            outcomes
                .path
                .right(format!("{label} leaves the path as it is"));
        }
        let limit = duration(&rule["timeout"]).or_else(|| duration(&rule["timeouts"]["request"]));
        // Istio has no time limit by default; what an HTTPRoute means without one depends on the control plane.
        let has_default = limit.is_none() && manifest.kind == "HTTPRoute";
        match limit.filter(|limit| !limit.is_zero()) {
            Some(limit) => outcomes.sockets.warn(
                format!(
                    "{label} ends responses after {limit:?}: downloads and streamed pages are cut"
                ),
                "set the timeout to 0s",
            ),
            None if has_default => {}
            None => outcomes
                .sockets
                .right(format!("{label} has no time limit for responses")),
        }
    }
}
