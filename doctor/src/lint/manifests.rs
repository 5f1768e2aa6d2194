//! Reads manifests of Istio and Envoy Gateway together, and checks routes (F04, F07).
//!
//! The control plane makes Envoy's configuration of them, and of much else, so a dump of the running proxy says more. All
//! manifests of a run are read together, because the filter, the recorded peer and the guard are in different objects.

use serde_json::Value;

use crate::lint::document::Manifest;
use crate::lint::facts::Facts;
use crate::lint::message::items;
use crate::lint::outcomes::Outcomes;
use crate::lint::path::{kept_mounts, removed_mounts};
use crate::lint::sockets::duration;
use crate::lint::{envoy_gateway, istio};
use crate::outcome::Outcome;

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
    let forwards = |rule: &&Value| {
        let mut filters = items(&rule["filters"]);
        rule["redirect"].is_null() && !filters.any(|filter| filter["type"] == "RequestRedirect")
    };
    let rules = items(&spec["rules"]).chain(items(&spec["http"]));
    for rule in rules.filter(forwards) {
        path(rule, &label, facts, &mut outcomes.path);
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

/// Checks what a rule does to a path from which the filter has removed the mount, or in which it has left it.
fn path(rule: &Value, label: &str, facts: &Facts<'_>, outcome: &mut Outcome) {
    let Some(rewrite) = Rewrite::of(rule) else {
        if !facts.settings.is_empty() {
            outcome.right(format!("{label} leaves the path as it is"));
        }
        return;
    };
    let mounts = |of: fn(&str) -> Vec<String>| {
        let settings = facts.settings.iter();
        settings.flat_map(|text| of(text)).collect::<Vec<_>>()
    };
    let removed = mounts(removed_mounts);
    let kept = mounts(kept_mounts);
    let shown = rewrite.shown();
    if let Some(mount) = removed.iter().find(|mount| rewrite.adds(mount)) {
        outcome.fail(
            format!("{label} rewrites the path{shown}, but the filter has removed the mount `{mount}`, and the route adds it again"),
            "remove the rewrite, and set upstream_path: full in the settings of the filter if the upstream expects the mount",
        );
    } else if let Some(mount) = removed.first() {
        outcome.fail(
            format!("{label} rewrites the path{shown}, but the filter removes the mount `{mount}` itself"),
            "remove the rewrite",
        );
    } else if let Some(mount) = kept.iter().find(|mount| rewrite.adds(mount)) {
        outcome.fail(
            format!("{label} rewrites the path{shown}, but the filter leaves the mount `{mount}` in it (upstream_path: full), so the upstream gets it twice"),
            "remove the rewrite",
        );
    } else if let Some(mount) = kept.first() {
        outcome.warn(
            format!("{label} rewrites the path{shown}, but upstream_path: full says that the upstream expects the mount `{mount}` in it"),
            "remove the rewrite; if the upstream expects no mount, set upstream_path: stripped instead",
        );
    }
}

/// What a rule makes of the path.
struct Rewrite<'a> {
    /// The new path or prefix; `None` for a regular expression.
    target: Option<&'a str>,
}

impl<'a> Rewrite<'a> {
    /// Returns what a rule makes of the path; `None` if it leaves the path as it is.
    fn of(rule: &'a Value) -> Option<Self> {
        let of_filters = items(&rule["filters"])
            .filter(|filter| filter["type"] == "URLRewrite")
            .map(|filter| &filter["urlRewrite"]["path"])
            .find(|path| !path.is_null());
        let target = match (of_filters, &rule["rewrite"]) {
            (Some(path), _) => path["replacePrefixMatch"]
                .as_str()
                .or_else(|| path["replaceFullPath"].as_str()),
            (None, rewrite) if !rewrite["uri"].is_null() => rewrite["uri"].as_str(),
            (None, rewrite) if !rewrite["uriRegexRewrite"].is_null() => None,
            _ => return None,
        };
        let mut matched = items(&rule["match"])
            .map(|condition| &condition["uri"]["prefix"])
            .chain(items(&rule["matches"]).map(|condition| &condition["path"]["value"]))
            .peekable();
        let replaces_by_itself = matched.peek().is_some()
            && target.is_some_and(|target| matched.all(|prefix| prefix == target));
        (!replaces_by_itself).then_some(Self { target })
    }

    /// Returns true if the new path begins with the mount.
    fn adds(&self, mount: &str) -> bool {
        let rest = self.target.and_then(|target| target.strip_prefix(mount));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn shown(&self) -> String {
        self.target
            .map_or_else(String::new, |target| format!(" to `{target}`"))
    }
}
