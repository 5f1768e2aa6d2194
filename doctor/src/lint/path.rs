//! Finds paths that are normalized too little, or rewritten twice (F04).
//!
//! Routes and RBAC match the path that the connection manager leaves, so it must have resolved or rejected dot segments and
//! escaped slashes. The filter removes the mount, so a route must match what is left, and must not remove anything itself.

use fluxlit_policy::{Defaults, Policy};
use serde_json::Value;

use crate::lint::envoy::Ours;
use crate::lint::message::{items, kind_of};
use crate::outcome::Outcome;

/// Checks one connection manager with the FluxLit filter.
pub(crate) fn check(ours: &Ours<'_>, outcome: &mut Outcome) {
    let place = ours.place();
    let config = &ours.manager.config;
    let mut missing = Vec::new();
    for name in ["normalize_path", "merge_slashes"] {
        if config[name] != true {
            missing.push(format!("{name}: true"));
        }
    }
    let slashes = config["path_with_escaped_slashes_action"]
        .as_str()
        .unwrap_or_default();
    if ![
        "REJECT_REQUEST",
        "UNESCAPE_AND_REDIRECT",
        "UNESCAPE_AND_FORWARD",
    ]
    .contains(&slashes)
    {
        missing.push("path_with_escaped_slashes_action: REJECT_REQUEST".to_owned());
    }
    let underscores = config["common_http_protocol_options"]["headers_with_underscores_action"]
        .as_str()
        .unwrap_or_default();
    if !["REJECT_REQUEST", "DROP_HEADER"].contains(&underscores) {
        missing.push(
            "common_http_protocol_options.headers_with_underscores_action: REJECT_REQUEST"
                .to_owned(),
        );
    }
    // Istio sets these fields by its mesh configuration, for all proxies at once.
    let is_of_istio = config["server_name"] == "istio-envoy";
    if missing.is_empty() {
        outcome.right(format!(
            "{place}: paths are normalized before routes match them"
        ));
    } else if is_of_istio && !depends_on_paths(ours) {
        outcome.right(format!(
            "{place}: no route and no RBAC rule depends on the path"
        ));
    } else {
        outcome.warn(
            format!(
                "{place}: Envoy matches routes and RBAC against paths or headers that a server may read differently"
            ),
            if is_of_istio {
                "set meshConfig.pathNormalization.normalization: DECODE_AND_MERGE_SLASHES".to_owned()
            } else {
                format!("set in the connection manager: {}", missing.join(", "))
            },
        );
    }
    let mounts = removed_mounts(&ours.filter.settings_text());
    for (label, route) in ours.manager.forwarding_routes() {
        rewritten(&label, &route["route"], &mounts, outcome);
        unreachable(&label, &route["match"], &mounts, outcome);
    }
}

/// Returns true if a route does not match every path, or an RBAC rule names a path.
fn depends_on_paths(ours: &Ours<'_>) -> bool {
    let is_for_every_path = |route: &Value| route["match"]["prefix"] == "/";
    let mut hosts = ours.manager.virtual_hosts();
    let selects = hosts.any(|host| {
        host.get("matcher").is_some() || !items(&host["routes"]).all(is_for_every_path)
    });
    let mut filters = ours.manager.filters.iter();
    let names_path = filters.any(|filter| {
        let text = filter.config.to_string();
        kind_of(&filter.config) == "RBAC"
            && (text.contains("\"url_path\"") || text.contains("\":path\""))
    });
    selects || names_path
}

/// The route removes something from a path that has no mount any more.
fn rewritten(label: &str, action: &Value, mounts: &[String], outcome: &mut Outcome) {
    let rewrite = [
        "prefix_rewrite",
        "regex_rewrite",
        "path_rewrite_policy",
        "path_rewrite",
    ]
    .into_iter()
    .find(|name| action.get(*name).is_some());
    if let (Some(rewrite), Some(mount)) = (rewrite, mounts.first()) {
        outcome.fail(
            format!("{label} has {rewrite}, but the filter has already removed the mount `{mount}`, so paths are wrong or begin with `//`"),
            format!("remove {rewrite}; the filter removes the mount itself"),
        );
    }
}

/// The route matches the mount, which is not there any more.
fn unreachable(label: &str, condition: &Value, mounts: &[String], outcome: &mut Outcome) {
    let pattern = ["prefix", "path", "path_separated_prefix"]
        .into_iter()
        .find_map(|name| condition[name].as_str());
    let is_below = |mount: &&String| {
        pattern.is_some_and(|pattern| {
            pattern
                .strip_prefix(mount.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    if let Some(mount) = mounts.iter().find(is_below) {
        outcome.fail(
            format!("{label} matches `{mount}`, which the filter has removed before Envoy selects a route"),
            "match the path without the mount, such as prefix: /",
        );
    }
}

/// Returns the mounts that the filter leaves in paths.
pub(crate) fn kept_mounts(settings: &str) -> Vec<String> {
    let parsed: Value = serde_json::from_str(settings).unwrap_or_default();
    items(&parsed["mounts"])
        .chain([&parsed])
        .filter(|mount| mount["upstream_path"] == "full")
        .filter_map(written_mount)
        .filter(|mount| mount.len() > 1)
        .collect()
}

fn written_mount(entry: &Value) -> Option<String> {
    let path = entry["root_path"].as_str()?;
    Some(format!("/{}", path.trim_matches('/')))
}

/// Returns the mounts that the filter removes from paths.
pub(crate) fn removed_mounts(settings: &str) -> Vec<String> {
    let parsed: Value = serde_json::from_str(settings).unwrap_or_default();
    if parsed["upstream_path"] == "full" {
        return Vec::new();
    }
    let policy = Policy::from_json(settings.as_bytes(), Defaults::FILTER);
    let single = policy
        .map(|policy| policy.mount().to_owned())
        .unwrap_or_default();
    let several = parsed["mounts"].as_array().into_iter().flatten();
    several
        .filter(|mount| mount["upstream_path"] != "full")
        .filter_map(written_mount)
        .chain([single])
        .filter(|mount| mount.len() > 1)
        .collect()
}
