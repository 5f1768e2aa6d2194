//! Checks that `control-planes/` contains what the control planes make of the shipped resources: each part of a resource that
//! counts is where it belongs, with the same value.

use std::path::Path;

use fluxlit_envoy::Place;
use serde_json::{Value, json};

/// Returns the resources of an overlay, those of the files as written.
fn resources(place: Place) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/kubernetes/overlays")
        .join(place.name());
    let mut resources = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the overlay") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file");
        for document in text.split("\n---\n") {
            resources.push(serde_saphyr::from_str(document).expect("YAML"));
        }
    }
    resources
}

/// Returns the resource of this kind; the one of this name if there are several.
#[track_caller]
fn one<'a>(resources: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = resources
        .iter()
        .filter(|one| one["kind"] == kind && (name.is_empty() || one["metadata"]["name"] == name));
    match (found.next(), found.next()) {
        (Some(one), None) => one,
        (one, _) => panic!("not one {kind}: {one:?}"),
    }
}

/// Returns all messages whose type ends with `kind`.
fn messages<'a>(value: &'a Value, kind: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    let is_one = |value: &Value| {
        let name = value["@type"].as_str();
        name.is_some_and(|name| name.rsplit('.').next() == Some(kind))
    };
    if is_one(value) {
        found.push(value);
    }
    match value {
        Value::Array(items) => found.extend(items.iter().flat_map(|item| messages(item, kind))),
        Value::Object(fields) => {
            found.extend(fields.values().flat_map(|field| messages(field, kind)));
        }
        _ => {}
    }
    found
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns the position of the filter of this type in a connection manager.
fn position(manager: &Value, kind: &str) -> Option<usize> {
    items(&manager["http_filters"])
        .iter()
        .position(|filter| messages(filter, kind).len() == 1)
}

/// Returns the configuration of a wasm filter.
fn settings(filter: &Value) -> Value {
    let text = filter["config"]["configuration"]["value"].as_str();
    serde_json::from_str(text.expect("a text")).expect("JSON")
}

const ISTIO: [Place; 3] = [
    Place::IstioGateway,
    Place::IstioSidecar,
    Place::IstioWaypoint,
];

#[test]
fn istio_configures_the_filter_as_the_wasmplugin_says() {
    for place in ISTIO {
        let (resources, written) = (resources(place), place.as_written());
        let plugin = one(&resources, "WasmPlugin", "");
        let filters = messages(written.value(), "Wasm");
        assert!(!filters.is_empty(), "{place:?}");
        for filter in filters {
            assert_eq!(
                settings(filter),
                plugin["spec"]["pluginConfig"],
                "{place:?}"
            );
            assert_eq!(
                filter["config"]["failure_policy"], plugin["spec"]["failStrategy"],
                "{place:?}"
            );
            let namespace = plugin["metadata"]["namespace"].as_str();
            let name = format!("{}.fluxlit", namespace.unwrap_or("my-team"));
            assert_eq!(filter["config"]["name"], name.as_str(), "{place:?}");
        }
    }
}

/// A port that only redirects has no filter.
#[test]
fn the_filter_is_on_the_ports_that_the_wasmplugin_matches() {
    for place in [Place::IstioGateway, Place::IstioSidecar] {
        let (resources, written) = (resources(place), place.as_written());
        let matched = &one(&resources, "WasmPlugin", "")["spec"]["match"][0]["ports"];
        let matched: Vec<&Value> = items(matched).iter().map(|port| &port["number"]).collect();
        let listeners = items(&written.value()["static_resources"]["listeners"]);
        let ports: Vec<&Value> = listeners
            .iter()
            .filter(|listener| !messages(listener, "Wasm").is_empty())
            .map(|listener| &listener["address"]["socket_address"]["port_value"])
            .collect();
        assert_eq!(ports, matched, "{place:?}");
    }
}

/// The phase AUTHN with the highest priority.
#[test]
fn the_filter_is_first_and_before_authorization() {
    for place in ISTIO {
        let written = place.as_written();
        let managers = messages(written.value(), "HttpConnectionManager");
        let with_filter: Vec<_> = managers
            .into_iter()
            .filter(|manager| position(manager, "Wasm").is_some())
            .collect();
        assert!(!with_filter.is_empty(), "{place:?}");
        for manager in with_filter {
            assert_eq!(position(manager, "Wasm"), Some(0), "{place:?}");
            let has_policy = place != Place::IstioGateway;
            assert_eq!(
                position(manager, "RBAC"),
                has_policy.then_some(1),
                "{place:?}"
            );
        }
    }
}

#[test]
fn the_patches_of_the_envoyfilter_are_applied() {
    for place in ISTIO {
        let (resources, written) = (resources(place), place.as_written());
        let filter = one(&resources, "EnvoyFilter", "");
        let patches = |target: &str, operation: &str| -> Vec<&Value> {
            let all = items(&filter["spec"]["configPatches"]).iter();
            all.filter(|patch| {
                patch["applyTo"] == target && patch["patch"]["operation"] == operation
            })
            .map(|patch| &patch["patch"]["value"])
            .collect()
        };
        let merged = patches("HTTP_ROUTE", "MERGE");
        let added = patches("HTTP_ROUTE", "ADD");
        let recorded = patches("NETWORK_FILTER", "INSERT_BEFORE");
        assert_eq!((merged.len(), added.len()), (1, 2), "{place:?}");
        let mut chains = 0;
        for listener in items(&written.value()["static_resources"]["listeners"]) {
            for chain in items(&listener["filter_chains"]) {
                let [before @ .., manager] = items(&chain["filters"]) else {
                    panic!("{place:?}: no filters");
                };
                let manager = &manager["typed_config"];
                // The end of a tunnel has no route that an EnvoyFilter could change.
                if manager["stat_prefix"] == "connect_terminate" {
                    continue;
                }
                chains += 1;
                assert_eq!(before.iter().collect::<Vec<_>>(), recorded, "{place:?}");
                for host in items(&manager["route_config"]["virtual_hosts"]) {
                    let [own @ .., last, very_last] = items(&host["routes"]) else {
                        panic!("{place:?}: too few routes");
                    };
                    assert_eq!([last, very_last], added[..], "{place:?}");
                    assert!(!own.is_empty(), "{place:?}");
                    for route in own {
                        let condition = &route["match"]["filter_state"];
                        assert_eq!(*condition, merged[0]["match"]["filter_state"], "{place:?}");
                    }
                }
            }
        }
        assert!(chains > 0, "{place:?}");
    }
}

#[test]
fn authorization_is_what_the_policies_say() {
    for (place, name) in [
        (Place::IstioSidecar, "fluxlit-gateway"),
        (Place::IstioWaypoint, "fluxlit-waypoint"),
    ] {
        let (resources, written) = (resources(place), place.as_written());
        let rule = &one(&resources, "AuthorizationPolicy", name)["spec"]["rules"][0];
        let principal = rule["from"][0]["source"]["principals"][0].as_str();
        let identity = json!({"exact": format!("spiffe://{}", principal.expect("a principal"))});
        let wanted = if place == Place::IstioSidecar {
            json!({"authenticated": {"principal_name": identity}})
        } else {
            json!({"filter_state": {"key": "io.istio.peer_principal", "string_match": identity}})
        };
        let rbac = messages(written.value(), "RBAC");
        let [rbac] = rbac[..] else {
            panic!("{place:?}: {rbac:?}");
        };
        let policies = rbac["rules"]["policies"].as_object().expect("policies");
        assert_eq!(rbac["rules"]["action"], "ALLOW", "{place:?}");
        let policy = format!("ns[my-team]-policy[{name}]-rule[0]");
        assert_eq!(policies.keys().collect::<Vec<_>>(), [&policy], "{place:?}");
        let found = &policies[&policy]["principals"][0]["and_ids"]["ids"];
        assert_eq!(*found, json!([{"or_ids": {"ids": [wanted]}}]), "{place:?}");
        let port = rule["to"][0]["operation"]["ports"][0].as_str();
        let permissions = policies[&policy]["permissions"].to_string();
        if let Some(port) = port {
            let port = format!("\"destination_port\":{port}");
            assert!(permissions.contains(&port), "{place:?}: {permissions}");
        }
    }
}

#[test]
fn the_ingress_gateway_serves_the_host_of_the_gateway() {
    let (resources, written) = (
        resources(Place::IstioGateway),
        Place::IstioGateway.as_written(),
    );
    let gateway = &one(&resources, "Gateway", "")["spec"]["servers"];
    let listeners = items(&written.value()["static_resources"]["listeners"]);
    assert_eq!(listeners.len(), items(gateway).len());
    for (listener, server) in listeners.iter().zip(items(gateway)) {
        let port = &listener["address"]["socket_address"]["port_value"];
        assert_eq!(*port, server["port"]["number"]);
        let chain = &listener["filter_chains"][0];
        let manager = messages(chain, "HttpConnectionManager")[0];
        let host = &manager["route_config"]["virtual_hosts"][0];
        assert_eq!(host["domains"], server["hosts"]);
        if server["tls"]["httpsRedirect"] == true {
            assert_eq!(host["require_tls"], "ALL");
        } else {
            assert_eq!(chain["filter_chain_match"]["server_names"], server["hosts"]);
        }
    }
    let cookie = one(&resources, "DestinationRule", "")
        .pointer("/spec/trafficPolicy/loadBalancer/consistentHash/httpCookie");
    let route = written.value().pointer(
        "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config/route_config\
         /virtual_hosts/0/routes/0/route",
    );
    let route = route.expect("the route");
    assert_eq!(Some(&route["hash_policy"][0]["cookie"]), cookie);
    assert_eq!(route["timeout"], "0s");
}

#[test]
fn envoy_gateway_configures_what_its_policies_say() {
    let place = Place::EnvoyGateway;
    let (resources, written) = (resources(place), place.as_written());
    let policy = &one(&resources, "EnvoyExtensionPolicy", "")["spec"]["wasm"][0];
    let filters = messages(written.value(), "Wasm");
    assert_eq!(filters.len(), 1, "one for the listener of sectionName");
    for filter in filters {
        assert_eq!(settings(filter), policy["config"]);
        assert_eq!(filter["config"]["fail_open"], policy["failOpen"]);
        assert_eq!(filter["config"]["root_id"], policy["rootID"]);
        assert_eq!(filter["config"].get("failure_policy"), None);
    }
    let managers = messages(written.value(), "HttpConnectionManager");
    let with_filter = managers.iter().map(|one| position(one, "Wasm").is_some());
    assert_eq!(with_filter.collect::<Vec<_>>(), [true, false]);
    let manager = managers[0];
    let filter = &items(&manager["http_filters"])[position(manager, "Wasm").expect("the filter")];
    assert_eq!(filter["disabled"], true);
    let name = filter["name"].as_str().expect("a name");
    for host in items(&manager["route_config"]["virtual_hosts"]) {
        for route in items(&host["routes"]) {
            let on = &route["typed_per_filter_config"][name];
            assert_eq!(on["config"], json!({}), "{route}");
        }
    }
    let target = &one(&resources, "EnvoyExtensionPolicy", "")["spec"]["targetRefs"][0];
    let listener = format!(
        "my-team/fluxlit/{}",
        target["sectionName"].as_str().unwrap_or_default()
    );
    assert_eq!(
        written.value()["static_resources"]["listeners"][0]["name"],
        listener.as_str()
    );
    let patch = &one(&resources, "EnvoyPatchPolicy", "")["spec"]["jsonPatches"][0];
    let [.., before_router, router] = items(&manager["http_filters"]) else {
        panic!("too few filters");
    };
    assert_eq!(router["name"], "envoy.filters.http.router");
    assert_eq!(*before_router, patch["operation"]["value"]);
    assert_eq!(
        written.value()["static_resources"]["listeners"][0]["name"],
        patch["name"]
    );

    let client = &one(&resources, "ClientTrafficPolicy", "")["spec"];
    assert_eq!(client.get("clientIPDetection"), None);
    assert_eq!(client["headers"]["withUnderscoresAction"], "RejectRequest");
    assert_eq!(client["path"]["escapedSlashesAction"], "RejectRequest");
    let timeouts = &client["timeout"]["http"];
    let common = "common_http_protocol_options";
    for manager in &managers {
        assert_eq!(manager["use_remote_address"], true);
        assert_eq!(
            manager[common]["headers_with_underscores_action"],
            "REJECT_REQUEST"
        );
        assert_eq!(
            manager["path_with_escaped_slashes_action"],
            "REJECT_REQUEST"
        );
        for (found, name) in [
            (
                &manager["request_headers_timeout"],
                "requestHeadersReceivedTimeout",
            ),
            (&manager["stream_idle_timeout"], "streamIdleTimeout"),
            (&manager[common]["idle_timeout"], "idleTimeout"),
        ] {
            assert_eq!(*found, timeouts[name], "{name}");
        }
    }
    let route = &one(&resources, "HTTPRoute", "fluxlit")["spec"];
    let host = &manager["route_config"]["virtual_hosts"][0];
    assert_eq!(host["domains"], route["hostnames"]);
    assert_eq!(
        host["routes"][0]["route"]["timeout"],
        route["rules"][0]["timeouts"]["request"]
    );
}
