//! Checks manifests of Istio and Envoy Gateway as far as they say something about the filter (F01 to F04, F07, F08).
//!
//! The control plane makes Envoy's configuration of them, and of much else, so a dump of the running proxy says more. All
//! manifests of a run are read together, because the filter, the recorded peer and the guard are in different objects.

use serde_json::{Value, json};

use crate::lint::document::{Manifest, normalized};
use crate::lint::envoy::{items, kind_of, text};
use crate::lint::outcomes::Outcomes;
use crate::lint::path::removed_mounts;
use crate::lint::peer_source::{CONNECTION_EVENTS, Record};
use crate::lint::presence::{GUARD, is_guarded, is_rbac_guard, rejects_everything};
use crate::lint::settings;
use crate::lint::sockets::duration;

/// Checks all manifests of a run.
pub(crate) fn check(manifests: &[&Manifest], outcomes: &mut Outcomes) {
    let facts = Facts::of(manifests);
    for manifest in manifests {
        match manifest.kind.as_str() {
            "WasmPlugin" | "TrafficExtension" => istio_plugin(manifest, &facts, outcomes),
            "EnvoyFilter" => envoy_filter(manifest, outcomes),
            "EnvoyExtensionPolicy" => extension_policy(manifest, &facts, outcomes),
            "ClientTrafficPolicy" => client_traffic_policy(manifest, &facts, outcomes),
            "HTTPRoute" | "VirtualService" => route(manifest, &facts, outcomes),
            _ => {}
        }
    }
}

/// What one manifest needs from the others.
struct Facts {
    /// The filter state keys that a network filter records, each with true if it is directly before the connection manager.
    recorded: Vec<(String, bool)>,
    /// True if there is an EnvoyFilter at all.
    has_envoy_filter: bool,
    /// True if some patch adds the RBAC guard.
    has_rbac_guard: bool,
    /// True if an EnvoyFilter guards every route of a gateway.
    guards_routes: bool,
    /// The plugins' settings.
    settings: Vec<String>,
    /// True if a mesh configuration or annotation trusts a number of proxies.
    trusts_hops: bool,
}

impl Facts {
    fn of(manifests: &[&Manifest]) -> Self {
        let of_kind = |kind: &'static str| {
            manifests
                .iter()
                .filter(move |manifest| manifest.kind == kind)
        };
        let patches =
            || of_kind("EnvoyFilter").flat_map(|filter| items(&filter.spec()["configPatches"]));
        let recorded = patches()
            .filter(|patch| patch["applyTo"] == "NETWORK_FILTER")
            .flat_map(|patch| {
                let value = normalized(patch["patch"]["value"].clone());
                let is_before = patch["patch"]["operation"] == "INSERT_BEFORE"
                    && patch
                        .pointer("/match/listener/filterChain/filter/name")
                        .is_some_and(|name| name == CONNECTION_MANAGER);
                CONNECTION_EVENTS
                    .iter()
                    .flat_map(|event| items(&value["typed_config"][event]))
                    .map(|state| (text(&state["object_key"]), is_before))
                    .collect::<Vec<_>>()
            })
            .collect();
        let plugin_settings = of_kind("WasmPlugin")
            .map(|plugin| plugin_settings(plugin.spec()))
            .chain(
                of_kind("TrafficExtension").map(|plugin| plugin_settings(&plugin.spec()["wasm"])),
            )
            .chain(of_kind("EnvoyExtensionPolicy").flat_map(|policy| {
                items(&policy.spec()["wasm"]).map(|plugin| plugin["config"].to_string())
            }));
        Self {
            recorded,
            has_envoy_filter: of_kind("EnvoyFilter").next().is_some(),
            has_rbac_guard: manifests
                .iter()
                .any(|manifest| contains_rbac_guard(&normalized(manifest.object.clone()))),
            guards_routes: patches().any(merges_guard),
            settings: plugin_settings.collect(),
            trusts_hops: manifests
                .iter()
                .any(|manifest| trusts_hops(&manifest.object)),
        }
    }
}

fn istio_plugin(manifest: &Manifest, facts: &Facts, outcomes: &mut Outcomes) {
    let spec = if manifest.kind == "TrafficExtension" {
        &manifest.spec()["wasm"]
    } else {
        manifest.spec()
    };
    let outer = manifest.spec();
    let text_of_settings = plugin_settings(spec);
    if !is_ours(manifest, spec, &text_of_settings) {
        return;
    }
    let label = manifest.label();
    settings::check(&label, &text_of_settings, &mut outcomes.offline);
    let strategy = spec["failStrategy"].as_str().unwrap_or("FAIL_CLOSE");
    match strategy {
        "FAIL_RELOAD" => outcomes
            .failure
            .right(format!("{label}: a failed filter is started again")),
        "FAIL_OPEN" => outcomes.failure.fail(
            format!("{label}: failStrategy is FAIL_OPEN, so requests pass unfiltered if the module fails or cannot be fetched"),
            "set failStrategy: FAIL_RELOAD",
        ),
        _ => outcomes.failure.warn(
            format!("{label}: failStrategy is {strategy}, so a proxy responds with 503 for ever after the filter has failed once"),
            "set failStrategy: FAIL_RELOAD",
        ),
    }
    let phase = outer["phase"].as_str().unwrap_or("UNSPECIFIED_PHASE");
    if phase == "AUTHN" {
        outcomes
            .presence
            .right(format!("{label}: the filter is first in the chain"));
    } else {
        outcomes.presence.fail(
            format!("{label}: phase is {phase}, so AuthorizationPolicies see forged headers, and their responses lack HSTS"),
            "set phase: AUTHN and priority: 1000",
        );
    }
    // A listener of a gateway for http only redirects, which the filter must not see: it does not know the mounts.
    let is_tls = |port: &Value| TLS_PORTS.iter().any(|known| port["number"] == *known);
    let leaves_out = |selector: &Value| {
        if selector["ports"].is_null() {
            selector["mode"] == "CLIENT"
        } else {
            !items(&selector["ports"]).any(is_tls)
        }
    };
    if items(&outer["match"]).any(leaves_out) {
        outcomes.presence.warn(
            format!("{label}: `match` leaves out some ports or directions, whose requests bypass the filter"),
            "let `match` name the port of TLS (443, or 8443 in some installations), or remove it, and check that no other port forwards to the app",
        );
    }
    if facts.guards_routes || facts.has_rbac_guard {
        outcomes.presence.right(format!(
            "{label}: an EnvoyFilter rejects requests without the filter's mark"
        ));
    } else if facts.has_envoy_filter {
        // The EnvoyFilter says itself what it lacks.
    } else {
        outcomes.presence.skip(format!(
            "{label}: the guard of the routes is in an EnvoyFilter; lint both together, as envoy/istio/*.yaml"
        ));
    }
    peer(&label, &text_of_settings, facts, outcomes);
}

fn peer(label: &str, text_of_settings: &str, facts: &Facts, outcomes: &mut Outcomes) {
    let settings: Value = serde_json::from_str(text_of_settings).unwrap_or_default();
    let outcome = &mut outcomes.peer_source;
    match Record::of(&settings) {
        Some(Record { setting, key, .. }) => match facts.recorded.iter().find(|(recorded, _)| recorded == key) {
            Some((_, true)) => outcome.right(format!("{label}: an EnvoyFilter records the peer in `{key}`")),
            Some((_, false)) => outcome.fail(
                format!("{label}: the EnvoyFilter that records `{key}` does not insert it before the connection manager"),
                "set operation: INSERT_BEFORE and match the filter envoy.filters.network.http_connection_manager",
            ),
            None if facts.has_envoy_filter => outcome.fail(
                format!("{label}: no EnvoyFilter records `{key}` ({setting}), so every peer is unknown and untrusted"),
                "apply envoy/istio/envoyfilter.yaml, with the same key",
            ),
            None => outcome.skip(format!(
                "{label}: `{key}` is recorded by an EnvoyFilter; lint both together, as envoy/istio/*.yaml"
            )),
        },
        None if facts.trusts_hops => outcome.fail(
            format!("{label}: numTrustedProxies makes the address of the peer come from X-Forwarded-For, so the filter treats it as unknown"),
            "set peer_filter_state_key: fluxlit.peer, and apply envoy/istio/envoyfilter.yaml",
        ),
        None => outcome.warn(
            format!(
                "{label}: without peer_filter_state_key the peer is known only at a gateway with numTrustedProxies 0, and never \
                 at a sidecar or waypoint"
            ),
            "set peer_filter_state_key: fluxlit.peer, and apply envoy/istio/envoyfilter.yaml",
        ),
    }
}

/// Checks the patches of an EnvoyFilter that concern the peer or the routes.
fn envoy_filter(manifest: &Manifest, outcomes: &mut Outcomes) {
    let label = manifest.label();
    let patches: Vec<&Value> = items(&manifest.spec()["configPatches"]).collect();
    let routes: Vec<&&Value> = patches
        .iter()
        .filter(|patch| patch["applyTo"] == "HTTP_ROUTE")
        .collect();
    let concerns_filter = patches
        .iter()
        .any(|patch| patch.to_string().contains("fluxlit"));
    if !concerns_filter {
        return;
    }
    for patch in &patches {
        let value = normalized(patch["patch"]["value"].clone());
        let is_state = kind_of(&value["typed_config"]) == "Config";
        let states = CONNECTION_EVENTS
            .iter()
            .flat_map(|event| items(&value["typed_config"][event]));
        for state in states.filter(|_| is_state) {
            let format = state.pointer("/format_string/text_format_source/inline_string");
            let is_peer = format.and_then(Value::as_str).is_some_and(|format| {
                format.contains("DOWNSTREAM_") && format.contains("REMOTE_ADDRESS")
            });
            if !is_peer || state["factory_key"] != "envoy.string" {
                outcomes.peer_source.fail(
                    format!(
                        "{label}: `{}` does not record the address of the connection as a string",
                        text(&state["object_key"])
                    ),
                    "set factory_key: envoy.string and the format %DOWNSTREAM_REMOTE_ADDRESS%",
                );
            }
        }
    }
    let presence = &mut outcomes.presence;
    let guards_all = patches.iter().any(|patch| merges_guard(patch));
    let has_rbac = patches
        .iter()
        .any(|patch| contains_rbac_guard(&normalized(patch["patch"]["value"].clone())));
    if !guards_all && !has_rbac {
        presence.fail(
            format!("{label}: no patch adds the filter's mark to every route, so requests pass whenever the filter is missing"),
            format!("add a patch with applyTo: HTTP_ROUTE, match: {{context: GATEWAY}}, operation: MERGE and value: {{match: {{{GUARD}}}}}"),
        );
    }
    for patch in &routes {
        let value = normalized(patch["patch"]["value"].clone());
        let adds = ["ADD", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"]
            .iter()
            .any(|operation| patch["patch"]["operation"] == *operation);
        if adds && value.get("route").is_some() && !is_guarded(&value) && !has_rbac {
            presence.fail(
                format!(
                    "{label}: the route `{}` that it adds forwards requests that the filter has not processed",
                    text(&value["name"])
                ),
                format!("add to its match: {GUARD}"),
            );
        }
    }
    let last = routes
        .last()
        .map(|patch| normalized(patch["patch"]["value"].clone()));
    if guards_all && !last.as_ref().is_some_and(rejects_everything) {
        presence.warn(
            format!("{label}: no last route says why a request without the filter's mark is rejected"),
            "add the route `fluxlit-not-processed` of envoy/istio/envoyfilter.yaml as the last patch",
        );
    }
    if guards_all {
        presence.right(format!(
            "{label}: every route of the gateway requires the filter's mark"
        ));
    }
}

fn extension_policy(manifest: &Manifest, facts: &Facts, outcomes: &mut Outcomes) {
    let label = manifest.label();
    for plugin in items(&manifest.spec()["wasm"]) {
        let config = match &plugin["config"] {
            Value::Null => String::new(),
            config => config.to_string(),
        };
        if !is_ours(manifest, plugin, &config) {
            continue;
        }
        settings::check(&label, &config, &mut outcomes.offline);
        if plugin["failOpen"] == true {
            outcomes.failure.fail(
                format!("{label}: failOpen is true, so a request that makes the filter fail passes unfiltered, and all later ones"),
                "remove failOpen",
            );
        } else {
            outcomes.failure.warn(
                format!("{label}: Envoy Gateway cannot start a failed filter again, so a proxy responds with 503 after a failure"),
                "patch failure_policy: FAIL_RELOAD with an EnvoyPatchPolicy, and alert on 503",
            );
        }
        if facts.has_rbac_guard {
            outcomes.presence.right(format!(
                "{label}: an EnvoyPatchPolicy rejects requests without the filter's mark"
            ));
        } else {
            outcomes.presence.fail(
                format!(
                    "{label}: Envoy Gateway disables the filter in the filter chain and enables it on the routes of the policy, so \
                     404s and other routes bypass it"
                ),
                "insert envoy/rbac-guard.yaml before the router with an EnvoyPatchPolicy, and lint both together",
            );
        }
        let settings: Value = serde_json::from_str(&config).unwrap_or_default();
        let Some(Record { setting, .. }) = Record::of(&settings) else {
            outcomes.peer_source.right(format!(
                "{label}: without clientIPDetection no header can replace source.address"
            ));
            continue;
        };
        outcomes.peer_source.skip(format!(
            "{label}: {setting} is recorded by an EnvoyPatchPolicy; lint a dump of the proxy (/config_dump)"
        ));
    }
}

fn client_traffic_policy(manifest: &Manifest, facts: &Facts, outcomes: &mut Outcomes) {
    let label = manifest.label();
    let spec = manifest.spec();
    let uses_key = facts.settings.iter().any(|settings| {
        serde_json::from_str(settings).is_ok_and(|settings: Value| Record::of(&settings).is_some())
    });
    if !spec["clientIPDetection"].is_null() && !uses_key {
        outcomes.peer_source.fail(
            format!("{label}: clientIPDetection turns use_remote_address off, so any client chooses source.address and the peer is unknown"),
            "remove it and set trust_proxy with forwarded_allow_ips in the filter, or record the peer by an EnvoyPatchPolicy",
        );
    }
    let is_optional = spec["proxyProtocol"]["optional"] == true;
    if is_optional {
        outcomes.peer_source.warn(
            format!("{label}: with an optional PROXY protocol every client that can connect chooses its address"),
            "remove `optional`, or make sure that only the load balancer can connect",
        );
    }
    let slashes = spec["path"]["escapedSlashesAction"]
        .as_str()
        .unwrap_or("UnescapeAndRedirect");
    if slashes == "KeepUnchanged" {
        outcomes.path.warn(
            format!("{label}: escapedSlashesAction KeepUnchanged lets routes match a path that a server reads differently"),
            "set escapedSlashesAction: RejectRequest",
        );
    }
    if spec["path"]["disableMergeSlashes"] == true {
        outcomes.path.warn(
            format!("{label}: disableMergeSlashes lets routes match a path that a server reads differently"),
            "remove disableMergeSlashes",
        );
    }
    if spec["headers"]["withUnderscoresAction"] == "Allow" {
        outcomes.path.warn(
            format!("{label}: headers with underscores pass, which many servers read as the name with hyphens"),
            "set withUnderscoresAction: RejectRequest",
        );
    }
    for (name, pointer) in [
        ("streamIdleTimeout", "/timeout/http/streamIdleTimeout"),
        ("idleTimeout", "/timeout/http/idleTimeout"),
    ] {
        let limit = spec.pointer(pointer).and_then(duration);
        if limit.is_some_and(|limit| !limit.is_zero() && limit.as_secs() < 60) {
            outcomes.sockets.fail(
                format!("{label}: {name} is shorter than two of Streamlit's pings (30 s each), so WebSockets are cut"),
                "set at least 90s",
            );
        }
    }
}

/// Checks the rewrites and time limits of a route that is linted together with the filter.
fn route(manifest: &Manifest, facts: &Facts, outcomes: &mut Outcomes) {
    let label = manifest.label();
    let spec = manifest.spec();
    let mount = facts
        .settings
        .iter()
        .flat_map(|settings| removed_mounts(settings))
        .next();
    let rules = items(&spec["rules"]).chain(items(&spec["http"]));
    for rule in rules {
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
        }
        let limit = duration(&rule["timeout"]).or_else(|| duration(&rule["timeouts"]["request"]));
        if let Some(limit) = limit.filter(|limit| !limit.is_zero()) {
            outcomes.sockets.warn(
                format!(
                    "{label} ends responses after {limit:?}: downloads and streamed pages are cut"
                ),
                "set the timeout to 0s",
            );
        }
    }
}

/// Returns true if a patch adds the guard to every route of the gateways.
fn merges_guard(patch: &Value) -> bool {
    let value = normalized(patch["patch"]["value"].clone());
    // Nothing else in `match`: it applies to every route of the gateway.
    patch["applyTo"] == "HTTP_ROUTE"
        && patch["match"] == json!({"context": "GATEWAY"})
        && patch["patch"]["operation"] == "MERGE"
        && is_guarded(&value)
}

fn contains_rbac_guard(value: &Value) -> bool {
    match value {
        Value::Object(fields) => is_rbac_guard(value) || fields.values().any(contains_rbac_guard),
        Value::Array(items) => items.iter().any(contains_rbac_guard),
        _ => false,
    }
}

/// Returns true if a mesh configuration, wherever it is in the object, trusts proxies by their number.
fn trusts_hops(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            (name == "numTrustedProxies" && value.as_u64().is_some_and(|hops| hops > 0))
                || trusts_hops(value)
        }),
        Value::Array(items) => items.iter().any(trusts_hops),
        // Annotations and config maps contain it as text.
        Value::String(text) => text
            .split_once("numTrustedProxies")
            .is_some_and(|(_, rest)| {
                let digits = rest.trim_start_matches(['"', ':', ' ']);
                digits.starts_with(|first: char| ('1'..='9').contains(&first))
            }),
        _ => false,
    }
}

/// Returns the text that the filter gets: Istio sends none for an empty object.
fn plugin_settings(spec: &Value) -> String {
    match &spec["pluginConfig"] {
        Value::Object(settings) if !settings.is_empty() => {
            Value::Object(settings.clone()).to_string()
        }
        _ => String::new(),
    }
}

fn is_ours(manifest: &Manifest, plugin: &Value, settings: &str) -> bool {
    let is_named = |value: &Value| value.as_str().is_some_and(|text| text.contains("fluxlit"));
    manifest.name.contains("fluxlit")
        || [
            &plugin["url"],
            &plugin["pluginName"],
            &plugin["name"],
            &plugin["rootID"],
        ]
        .into_iter()
        .any(is_named)
        || plugin.pointer("/code/image/url").is_some_and(is_named)
        || plugin.pointer("/code/http/url").is_some_and(is_named)
        || settings::are_ours(settings)
}

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// The ports on which an ingress gateway of Istio listens for https.
const TLS_PORTS: [u64; 2] = [443, 8443];
