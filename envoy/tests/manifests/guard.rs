//! Finds routes that forward requests which the filter has not processed.

use serde_json::{Value, json};

/// Returns the errors in a configuration, and the number of places that were checked.
pub(crate) fn check(document: &Value) -> (Vec<String>, usize) {
    let mut check = Check::default();
    match document["kind"].as_str() {
        Some("EnvoyFilter") => check.istio(document),
        // Its EnvoyFilter is checked.
        Some("WasmPlugin") => check.places += 1,
        Some(kind @ ("EnvoyExtensionPolicy" | "EnvoyPatchPolicy" | "TrafficExtension")) => {
            check.error(format!("{kind}: no guard is known"));
        }
        _ => {
            check.internal = internal_listeners(document);
            check.envoy(document);
        }
    }
    (check.errors, check.places)
}

#[derive(Default)]
struct Check {
    errors: Vec<String>,
    places: usize,
    /// The internal listeners of the document, which are checked as well.
    internal: Vec<String>,
}

impl Check {
    fn error(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }

    /// Checks every connection manager and virtual host, wherever it is.
    fn envoy(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                let kind = fields
                    .get("@type")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if kind.ends_with(".HttpConnectionManager") {
                    self.connection_manager(value);
                    if has_rbac_guard(value) {
                        self.places += 1;
                        return;
                    }
                }
                if let Some(Value::Array(hosts)) = fields.get("virtual_hosts") {
                    hosts.iter().for_each(|host| self.virtual_host(host));
                }
                fields.values().for_each(|value| self.envoy(value));
            }
            Value::Array(items) => items.iter().for_each(|item| self.envoy(item)),
            _ => {}
        }
    }

    fn connection_manager(&mut self, manager: &Value) {
        if manager.get("route_config").is_none() {
            self.error("a connection manager takes its routes from elsewhere");
        }
        let upgrades = manager["upgrade_configs"].as_array();
        if upgrades.is_some_and(|all| all.iter().any(|one| one.get("filters").is_some())) {
            self.error("an upgrade has its own filters");
        }
    }

    fn virtual_host(&mut self, host: &Value) {
        self.places += 1;
        if host.get("matcher").is_some() {
            self.error("a virtual host has a matcher, which this check does not know");
        }
        let routes = host["routes"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let forwards = |route: &&Value| {
            route.get("redirect").is_none()
                && route.get("direct_response").is_none()
                && !self.is_tunnel(route)
        };
        let forwarding: Vec<&Value> = routes.iter().filter(forwards).collect();
        for route in &forwarding {
            if route["match"]["filter_state"] != condition() {
                self.error(format!("a route without the guard: {route}"));
            }
        }
        if !forwarding.is_empty() && !routes.last().is_some_and(rejects) {
            self.error("the last route does not say why a request is rejected");
        }
    }

    /// Returns true if the content of a tunnel goes to a listener of the same document, and nowhere else.
    fn is_tunnel(&self, route: &Value) -> bool {
        let cluster = route["route"]["cluster"].as_str().unwrap_or_default();
        route["match"] == json!({"connect_matcher": {}})
            && self.internal.iter().any(|name| name == cluster)
    }

    fn istio(&mut self, filter: &Value) {
        let patches = filter["spec"]["configPatches"].as_array();
        let guards: Vec<&Value> = patches
            .into_iter()
            .flatten()
            .filter(|patch| {
                patch["applyTo"] == "HTTP_ROUTE"
                    // Nothing else: it applies to every route of the gateway.
                    && patch["match"] == json!({"context": "GATEWAY"})
            })
            .collect();
        let merges = |patch: &&Value| {
            patch["patch"]["operation"] == "MERGE"
                && patch["patch"]["value"] == json!({"match": {"filter_state": condition()}})
        };
        if !guards.iter().any(merges) {
            self.error("the EnvoyFilter does not guard every route");
        }
        let last = guards.last();
        if !last.is_some_and(|patch| rejects(&patch["patch"]["value"])) {
            self.error("the last route does not say why a request is rejected");
        }
        self.places += 1;
    }
}

/// Returns the internal listeners that a cluster of the same name leads to.
fn internal_listeners(document: &Value) -> Vec<String> {
    let resources = &document["static_resources"];
    let all = |kind: &str| resources[kind].as_array().cloned().unwrap_or_default();
    let listeners = all("listeners");
    let leads_to = |cluster: &Value| {
        let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
        let name = cluster["name"].as_str()?.to_owned();
        let address = cluster.pointer(endpoint)?;
        let is_internal = listeners
            .iter()
            .any(|one| one["name"] == name && one.get("internal_listener").is_some());
        let wanted = json!({"envoy_internal_address": {"server_listener_name": name}});
        (is_internal && *address == wanted).then_some(name)
    };
    all("clusters").iter().filter_map(leads_to).collect()
}

/// Returns true if the last filter before the router is that of `rbac-guard.yaml`.
fn has_rbac_guard(manager: &Value) -> bool {
    let guard: Value = serde_saphyr::from_str(include_str!("../../rbac-guard.yaml"))
        .expect("rbac-guard.yaml is YAML");
    let filters = manager["http_filters"].as_array();
    matches!(
        filters.map(Vec::as_slice),
        Some([.., last, router]) if *last == guard && router["name"] == "envoy.filters.http.router"
    )
}

/// The condition of a guarded route.
fn condition() -> Value {
    json!([{"key": "wasm.fluxlit.client", "string_match": {"safe_regex": {"regex": ".+"}}}])
}

/// Returns true if a route rejects every request and says why.
fn rejects(route: &Value) -> bool {
    let response = &route["direct_response"];
    let body = response["body"]["inline_string"].as_str();
    route["match"] == json!({"prefix": "/"})
        && response["status"] == 503
        && body.is_some_and(|body| body.contains("filter is not running"))
}
