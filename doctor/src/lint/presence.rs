//! Finds requests that pass without the filter (F02).
//!
//! Envoy forwards requests without the filter in more ways than one: a route or virtual host that disables it, an upgrade
//! with its own filters, a discovery default, a worker without a VM. So it must be first in every chain that forwards to the
//! app, and a route must forward only what carries the filter's mark.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::lint::envoy::{Envoy, HttpFilter, Manager, Ours, Routes};
use crate::lint::message::{items, kind_of, text};
use crate::outcome::Outcome;

/// Checks all connection managers of an Envoy.
pub(crate) fn check(envoy: &Envoy, outcome: &mut Outcome) {
    let mut guarded_clusters = BTreeSet::new();
    let mut edges = 0_usize;
    for ours in envoy.ours() {
        edges = edges.saturating_add(1);
        edge(&ours, outcome);
        let routes = ours.manager.forwarding_routes();
        guarded_clusters.extend(routes.flat_map(|(_, route)| clusters(route)));
    }
    if edges == 0 {
        let reason = if envoy.managers.is_empty() {
            "the configuration has no listener for HTTP"
        } else {
            "no connection manager has the FluxLit filter"
        };
        if envoy.is_dump || !envoy.managers.is_empty() {
            outcome.fail(
                format!("{reason}, so every request is forwarded unfiltered"),
                "add the filter as the first of http_filters, as in envoy/bootstrap.yaml",
            );
        } else {
            outcome.skip(format!(
                "{reason}; lint the files with its resources as well, or a dump of the running Envoy (/config_dump)"
            ));
        }
        return;
    }
    for manager in &envoy.managers {
        let reached: BTreeSet<String> = open_clusters(manager)
            .intersection(&guarded_clusters)
            .cloned()
            .collect();
        if manager.ours().is_none() && !reached.is_empty() {
            outcome.fail(
                format!(
                    "listener `{}` forwards to cluster `{}` without the FluxLit filter",
                    manager.listener,
                    join(&reached)
                ),
                "add the filter to this filter chain, or remove the routes to that cluster",
            );
        }
    }
}

fn edge(ours: &Ours<'_>, outcome: &mut Outcome) {
    let place = ours.place();
    let before = ours.manager.filters.iter().take(ours.position);
    let acting: Vec<String> = before
        .filter(|filter| !is_harmless(&filter.config))
        .map(|filter| format!("`{}`", filter.name))
        .collect();
    if !acting.is_empty() {
        outcome.warn(
            format!(
                "{place}: {} before the FluxLit filter: it sees forged headers, and its responses lack HSTS",
                acting.join(", ")
            ),
            "make the FluxLit filter the first of http_filters (Istio: phase AUTHN, priority 1000)",
        );
    }
    let has_rbac_guard = ours
        .manager
        .filters
        .iter()
        .skip(ours.position)
        .any(HttpFilter::is_rbac_guard);
    if ours.filter.is_disabled && !has_rbac_guard {
        outcome.fail(
            format!(
                "{place}: the filter is disabled in the filter chain, so 404s and routes that do not enable it run without it"
            ),
            "remove `disabled`; where the control plane sets it (Envoy Gateway), add envoy/rbac-guard.yaml before the router",
        );
    }
    discovery(ours, has_rbac_guard, outcome);
    upgrades(ours.manager, &place, outcome);
    switched_off(ours, outcome);
    match &ours.manager.routes {
        Routes::Elsewhere(from) => outcome.skip(format!(
            "{place}: the routes come from {from}; lint a dump of the running Envoy (/config_dump)"
        )),
        Routes::Known(_) => guards(ours, has_rbac_guard, outcome),
    }
}

/// The filter comes from a server, and Envoy may have to serve without it.
fn discovery(ours: &Ours<'_>, has_rbac_guard: bool, outcome: &mut Outcome) {
    let default = &ours.filter.discovery["default_config"];
    if default.is_null() || ["Wasm", "DynamicModuleFilter"].contains(&kind_of(default)) {
        return;
    }
    let finding = format!(
        "{}: while the server has not delivered the filter, the default `{}` takes its place",
        ours.place(),
        kind_of(default)
    );
    let hint = "remove default_config (Istio: failStrategy FAIL_RELOAD), so that Envoy responds with 500 until it has the filter";
    let is_guarded = has_rbac_guard
        || ours
            .manager
            .forwarding_routes()
            .all(|(_, route)| is_guarded(route));
    if is_guarded {
        outcome.warn(format!("{finding}; the guard rejects the requests"), hint);
    } else {
        outcome.fail(format!("{finding}, and requests pass unfiltered"), hint);
    }
}

fn upgrades(manager: &Manager, place: &str, outcome: &mut Outcome) {
    for upgrade in items(&manager.config["upgrade_configs"]) {
        let filters = &upgrade["filters"];
        let is_own_chain = items(filters).next().is_some();
        let has_ours = items(filters).any(|filter| {
            let filter = HttpFilter {
                name: text(&filter["name"]),
                is_disabled: filter["disabled"] == true,
                config: filter["typed_config"].clone(),
                discovery: Value::Null,
            };
            filter.is_ours() && !filter.is_disabled
        });
        if is_own_chain && !has_ours {
            outcome.fail(
                format!(
                    "{place}: upgrades to `{}` have their own filters, so these handshakes bypass the filter",
                    text(&upgrade["upgrade_type"])
                ),
                "remove `filters` from the entry of upgrade_configs",
            );
        }
    }
}

/// Finds where routes switch the filter off.
fn switched_off(ours: &Ours<'_>, outcome: &mut Outcome) {
    let name = &ours.filter.name;
    let is_off = |part: &Value| {
        let own = &part["typed_per_filter_config"][name.as_str()];
        own["disabled"] == true
    };
    let mut report = |where_: String| {
        outcome.fail(
            format!("{where_} disables the filter, so its requests bypass it or are rejected by the guard"),
            format!("remove `{name}` from its typed_per_filter_config"),
        );
    };
    if let Routes::Known(routes) = &ours.manager.routes
        && is_off(routes)
    {
        report(format!("the route configuration of {}", ours.place()));
    }
    for host in ours.manager.virtual_hosts().filter(|host| is_off(host)) {
        report(format!(
            "virtual host `{}` of {}",
            text(&host["name"]),
            ours.place()
        ));
    }
    for (label, route) in ours.manager.forwarding_routes() {
        let clusters = items(&route["route"]["weighted_clusters"]["clusters"]);
        if is_off(route) || clusters.into_iter().any(is_off) {
            report(label);
        }
    }
}

/// Every route that forwards must have the guard, and a last one must say why a request is rejected.
fn guards(ours: &Ours<'_>, has_rbac_guard: bool, outcome: &mut Outcome) {
    let place = ours.place();
    let mut guarded = 0_usize;
    for (label, route) in ours.manager.forwarding_routes() {
        if is_guarded(route) {
            guarded = guarded.saturating_add(1);
            if ours.filter.is_disabled {
                outcome.fail(
                    format!("{label} requires the filter's mark, but the filter would have to be enabled by that route"),
                    "with a filter that routes enable, use envoy/rbac-guard.yaml instead of the condition",
                );
            }
        } else if !has_rbac_guard {
            outcome.fail(
                format!("{label} forwards requests that the filter has not processed, whenever the filter is missing"),
                format!("add to its match: {GUARD}"),
            );
        }
    }
    for host in ours.manager.virtual_hosts() {
        let name = text(&host["name"]);
        if host.get("matcher").is_some() {
            outcome.warn(
                format!("virtual host `{name}` of {place} selects routes by a matcher, which cannot be checked for the guard"),
                "use a list of routes, or envoy/rbac-guard.yaml before the router",
            );
            continue;
        }
        let forwards = items(&host["routes"]).any(|route| route.get("route").is_some());
        let catches_rest = items(&host["routes"])
            .last()
            .is_some_and(rejects_everything);
        if forwards && !catches_rest && !has_rbac_guard {
            outcome.warn(
                format!(
                    "virtual host `{name}` of {place} has no last route for requests without the filter's mark, so these get \
                     404 as if the app were gone"
                ),
                "add the route `fluxlit-not-processed` of envoy/bootstrap.yaml as the last one",
            );
        }
    }
    if has_rbac_guard {
        outcome.right(format!(
            "{place}: an RBAC filter rejects requests without the filter's mark"
        ));
    } else if guarded > 0 {
        outcome.right(format!("{place}: every route requires the filter's mark"));
    }
}

/// Returns true if a route matches only requests that carry the filter's mark.
pub(crate) fn is_guarded(route: &Value) -> bool {
    items(&route["match"]["filter_state"]).any(requires_mark)
}

/// Returns true if a filter state matcher is true only for a request with the filter's mark.
fn requires_mark(matcher: &Value) -> bool {
    if matcher["key"] != MARK || matcher["invert_match"] == true {
        return false;
    }
    let matches = &matcher["string_match"];
    let has_text = |name: &str| matches[name].as_str().is_some_and(|text| !text.is_empty());
    let regex = matches["safe_regex"]["regex"].as_str();
    ["exact", "prefix", "suffix", "contains"]
        .into_iter()
        .any(has_text)
        || regex.is_some_and(|regex| NOT_EMPTY.contains(&regex))
}

impl HttpFilter {
    /// Returns true for an RBAC filter that denies requests without the filter's mark.
    fn is_rbac_guard(&self) -> bool {
        !self.is_disabled && is_rbac_guard(&self.config)
    }
}

/// Returns true for the configuration of an RBAC filter that denies requests without the filter's mark.
pub(crate) fn is_rbac_guard(config: &Value) -> bool {
    let rules = &config["rules"];
    let denies = |policy: &Value| {
        items(&policy["permissions"]).any(|permission| permission["any"] == true)
            && items(&policy["principals"])
                .any(|principal| requires_mark(&principal["not_id"]["filter_state"]))
    };
    kind_of(config) == "RBAC"
        && rules["action"] == "DENY"
        && rules["policies"]
            .as_object()
            .is_some_and(|policies| policies.values().any(denies))
}

/// Returns true for a route that answers every request itself.
pub(crate) fn rejects_everything(route: &Value) -> bool {
    let condition = &route["match"];
    let only = |name: &str| {
        condition
            .as_object()
            .is_some_and(|fields| fields.len() == 1)
            && condition[name] == "/"
    };
    let rejects = route["direct_response"]["status"]
        .as_u64()
        .is_some_and(|status| status >= 400);
    rejects && only("prefix")
}

fn is_harmless(config: &Value) -> bool {
    let kind = config["@type"].as_str().unwrap_or_default();
    HARMLESS.iter().any(|harmless| kind.ends_with(harmless))
}

/// Returns the clusters that a connection manager forwards requests to which the filter has not processed.
fn open_clusters(manager: &Manager) -> BTreeSet<String> {
    if manager.filters.iter().any(HttpFilter::is_rbac_guard) {
        return BTreeSet::new();
    }
    manager
        .virtual_hosts()
        .filter(|host| !manager.redirects_to_tls(host))
        .flat_map(|host| manager.forwarding_routes_of(host))
        .filter(|(_, route)| !is_guarded(route))
        .flat_map(|(_, route)| clusters(route))
        .collect()
}

/// Returns the clusters that a route forwards to.
pub(crate) fn clusters(route: &Value) -> impl Iterator<Item = String> + '_ {
    let action = &route["route"];
    let weighted = items(&action["weighted_clusters"]["clusters"]);
    weighted
        .map(|cluster| &cluster["name"])
        .chain([&action["cluster"]])
        .map(text)
        .filter(|name| !name.is_empty())
}

fn join(names: &BTreeSet<String>) -> String {
    names
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("`, `")
}

/// The filter state that the filter stores as its last step.
pub(crate) const MARK: &str = "wasm.fluxlit.client";

/// The condition of a guarded route, as in the shipped files.
pub(crate) const GUARD: &str =
    "filter_state: [{key: wasm.fluxlit.client, string_match: {safe_regex: {regex: \".+\"}}}]";

/// Regular expressions that match every text except the empty one.
const NOT_EMPTY: [&str; 4] = [".+", "^.+$", "(.+)", "^(.+)$"];

/// Ends of the types of filters that neither read forwarded headers nor respond themselves.
const HARMLESS: [&str; 7] = [
    ".filters.http.set_filter_state.v3.Config",
    ".filters.http.grpc_stats.v3.FilterConfig",
    ".filters.http.header_to_metadata.v3.Config",
    ".filters.http.stateful_session.v3.StatefulSession",
    "io.istio.http.peer_metadata.Config",
    "envoy.tcp.metadataexchange.config.MetadataExchange",
    "stats.PluginConfig",
];
