//! Checks WasmPlugins, TrafficExtensions and EnvoyFilters of Istio (F01 to F03, F06, F08).
//!
//! An EnvoyFilter patches proxies of one kind (`context`), so the plugin, the recorded peer and the guard must be for the same
//! kind.

use serde_json::Value;

use crate::lint::context::{Context, guarded_context};
use crate::lint::document::{Manifest, normalized};
use crate::lint::facts::{Facts, concerns_filter, contains_rbac_guard, is_ours, plugin_settings};
use crate::lint::message::{items, kind_of, text};
use crate::lint::outcomes::Outcomes;
use crate::lint::peer_source::{CONNECTION_EVENTS, Record};
use crate::lint::presence::{GUARD, is_guarded, rejects_everything};
use crate::lint::{local_replies, settings};

/// Checks a WasmPlugin or a TrafficExtension.
pub(crate) fn plugin(manifest: &Manifest, facts: &Facts<'_>, outcomes: &mut Outcomes) {
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
    local_replies::not_in_manifests(&label, &mut outcomes.local_replies);
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
    let context = context_of(outer, facts);
    // A listener of a gateway for http only redirects, which the filter must not see: it does not know the mounts. At a sidecar,
    // `match` names the ports of the app.
    let is_tls = |port: &Value| TLS_PORTS.iter().any(|known| port["number"] == *known);
    let leaves_out = |selector: &Value| {
        if selector["mode"] == "SERVER" {
            return false;
        }
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
    let other = facts.guarded.iter().find(|_| {
        !facts.has_rbac_guard && context.is_some_and(|own| !facts.guarded.contains(&own))
    });
    if let (Some(own), Some(other)) = (context, other) {
        outcomes.presence.fail(
            format!(
                "{label}: it runs in {}, but the EnvoyFilter adds the filter's mark to the routes of {} (context {})",
                own.proxy(),
                other.proxy(),
                other.name()
            ),
            own.guard(),
        );
    } else if !facts.guarded.is_empty() || facts.has_rbac_guard {
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
    peer(&label, context, &text_of_settings, facts, outcomes);
}

fn peer(
    label: &str,
    context: Option<Context>,
    text_of_settings: &str,
    facts: &Facts<'_>,
    outcomes: &mut Outcomes,
) {
    let settings: Value = serde_json::from_str(text_of_settings).unwrap_or_default();
    let outcome = &mut outcomes.peer_source;
    let is_elsewhere = |recorded: Option<Context>| {
        context.is_some_and(|own| recorded.is_some_and(|recorded| recorded != own))
    };
    let recorded = |key: &str| {
        let of_key = || facts.recorded.iter().filter(|recorded| recorded.key == key);
        of_key()
            .find(|recorded| !is_elsewhere(recorded.context))
            .or_else(|| of_key().next())
    };
    match Record::of(&settings) {
        Some(Record { setting, key, .. }) => match recorded(key) {
            Some(recorded) if is_elsewhere(recorded.context) => outcome.fail(
                format!(
                    "{label}: it runs in {}, but the EnvoyFilter records `{key}` in {}, so every peer is unknown and untrusted",
                    context.map_or("another proxy", Context::proxy),
                    recorded.context.map_or("another proxy", Context::proxy),
                ),
                format!(
                    "set context: {} in the patch that records `{key}`",
                    context.map_or("", Context::name)
                ),
            ),
            Some(recorded) if recorded.is_before => outcome.right(format!("{label}: an EnvoyFilter records the peer in `{key}`")),
            Some(_) => outcome.fail(
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
        // As at a waypoint, which has no address and no certificate of the peer.
        None if settings["trust_proxy"] == false => outcome.right(format!(
            "{label}: trust_proxy is false, so no forwarded header is believed, whoever the peer is"
        )),
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
pub(crate) fn envoy_filter(manifest: &Manifest, outcomes: &mut Outcomes) {
    let label = manifest.label();
    let patches: Vec<&Value> = items(&manifest.spec()["configPatches"]).collect();
    let routes: Vec<&&Value> = patches
        .iter()
        .filter(|patch| patch["applyTo"] == "HTTP_ROUTE")
        .collect();
    if !concerns_filter(manifest) {
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
            } else {
                outcomes.peer_source.right(format!(
                    "{label}: `{}` is the address of the connection",
                    text(&state["object_key"])
                ));
            }
        }
    }
    let presence = &mut outcomes.presence;
    let guarded: Vec<Context> = patches
        .iter()
        .copied()
        .filter_map(guarded_context)
        .collect();
    let guards_all = !guarded.is_empty();
    let has_rbac = patches
        .iter()
        .any(|patch| contains_rbac_guard(&normalized(patch["patch"]["value"].clone())));
    if !guards_all && !has_rbac {
        presence.fail(
            format!("{label}: no patch adds the filter's mark to every route, so requests pass whenever the filter is missing"),
            patches
                .iter()
                .copied()
                .find_map(Context::of_patch)
                .unwrap_or(Context::Gateway)
                .guard(),
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
    for context in guarded {
        presence.right(format!(
            "{label}: every route of {} requires the filter's mark",
            context.proxy()
        ));
    }
}

/// Returns the proxies that a plugin is for, as far as the manifests say it.
fn context_of(spec: &Value, facts: &Facts<'_>) -> Option<Context> {
    let modes: Vec<&Value> = items(&spec["match"])
        .map(|selector| &selector["mode"])
        .collect();
    if !modes.is_empty() && modes.iter().all(|mode| *mode == "SERVER") {
        return Some(Context::SidecarInbound);
    }
    let targets = items(&spec["targetRefs"]).chain(spec.get("targetRef"));
    let mut contexts = targets.filter_map(|target| match target["kind"].as_str()? {
        "Service" | "ServiceEntry" => Some(Context::Waypoint),
        "Gateway" => {
            let mut gateways = facts.gateways.iter();
            let gateway = gateways.find(|gateway| target["name"] == gateway.name)?;
            let is_waypoint = gateway.spec()["gatewayClassName"] == "istio-waypoint";
            Some(if is_waypoint {
                Context::Waypoint
            } else {
                Context::Gateway
            })
        }
        _ => None,
    });
    contexts.next()
}

/// The ports on which an ingress gateway of Istio listens for https.
const TLS_PORTS: [u64; 2] = [443, 8443];
