//! Checks WasmPlugins, TrafficExtensions and EnvoyFilters of Istio (F01 to F03, F06, F08).
//!
//! An EnvoyFilter patches proxies of one kind (`context`) among those that it selects, so the plugin, the recorded peer and the
//! guard must be for the same kind and the same workloads.

use serde_json::Value;

use crate::lint::context::{Context, guarded_context};
use crate::lint::document::{Group, Manifest, normalized};
use crate::lint::facts::{
    Facts, Recorded, concerns_filter, contains_rbac_guard, is_ours, plugin_settings,
};
use crate::lint::gap::{self, Gap, Role};
use crate::lint::message::{items, kind_of, text};
use crate::lint::outcomes::Outcomes;
use crate::lint::peer_source::{CONNECTION_EVENTS, Record};
use crate::lint::presence::{GUARD, is_guarded, rejects_everything};
use crate::lint::target::Misplaced;
use crate::lint::workloads::{Selection, Workloads};
use crate::lint::{local_replies, settings};
use crate::outcome::Outcome;

/// Checks a WasmPlugin or a TrafficExtension.
pub(crate) fn plugin<'a>(manifest: &'a Manifest, facts: &Facts<'a>, outcomes: &mut Outcomes) {
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
    let proxy = Proxy::of(manifest, facts);
    if let Some(misplaced) = proxy.misplaced(facts) {
        misplaced.report(&label, &mut outcomes.presence);
        outcomes.peer_source.skip(format!(
            "{label}: it is for other proxies than the Gateway of these files (F02)"
        ));
        return;
    }
    guard(&label, &proxy, facts, &mut outcomes.presence);
    peer(
        &label,
        &proxy,
        &text_of_settings,
        facts,
        &mut outcomes.peer_source,
    );
}

/// The proxies that a plugin is for.
struct Proxy<'a> {
    workloads: Workloads<'a>,
    /// What is known of the workloads, at least one.
    known: Vec<Selection<'a>>,
    context: Option<Context>,
}

impl<'a> Proxy<'a> {
    fn of(manifest: &'a Manifest, facts: &Facts<'a>) -> Self {
        let workloads = Workloads::of(manifest, facts);
        let mut guarded = facts.guards.iter().filter_map(|guard| guard.context);
        let first = guarded.next();
        // If nothing else says it, the guard does.
        let by_guard = first.filter(|first| {
            *first != Context::SidecarOutbound && guarded.all(|next| next == *first)
        });
        Self {
            known: workloads.known(facts),
            context: context_of(manifest.spec(), &workloads, facts).or(by_guard),
            workloads,
        }
    }

    /// Returns why no Gateway of the files has the plugin, if it is for gateways.
    fn misplaced(&self, facts: &Facts<'a>) -> Option<Misplaced> {
        let is_at_gateway = self.context == Some(Context::Gateway);
        self.workloads
            .misses_gateways(facts)
            .filter(|_| is_at_gateway || self.workloads.has_targets())
    }

    /// Returns why a patch of an EnvoyFilter does not apply to one of the workloads.
    fn gap(
        &self,
        workload: &Selection<'a>,
        manifest: &'a Manifest,
        context: Option<Context>,
        role: &Role,
        facts: &Facts<'a>,
    ) -> Option<Gap> {
        Context::gap(self.context, context, &role.does).or_else(|| {
            self.workloads
                .gap(workload, &Workloads::of(manifest, facts))
        })
    }
}

/// An EnvoyFilter must guard the proxies in which the filter runs.
fn guard<'a>(label: &str, proxy: &Proxy<'a>, facts: &Facts<'a>, outcome: &mut Outcome) {
    if facts.guards.is_empty() {
        // The EnvoyFilter says itself what it lacks.
        if !facts.has_envoy_filter {
            outcome.skip(format!(
                "{label}: the guard of the routes is in an EnvoyFilter; lint both together, as envoy/istio/*.yaml"
            ));
        }
        return;
    }
    let role = Role::guard();
    let missing = gap::first(&proxy.known, &facts.guards, |workload, guard| {
        proxy.gap(workload, guard.manifest, guard.context, &role, facts)
    });
    match missing {
        None => outcome.right(format!(
            "{label}: an EnvoyFilter rejects requests without the filter's mark"
        )),
        Some((guard, mut gap)) => {
            // Routes have the same form of the guard at every proxy, but not the same match.
            if let (true, true, Some(own)) = (gap.is_of_patch, guard.is_of_routes, proxy.context) {
                gap.hint = own.guard();
            }
            gap.report(label, &guard.manifest.label(), &role, outcome);
        }
    }
}

fn peer<'a>(
    label: &str,
    proxy: &Proxy<'a>,
    text_of_settings: &str,
    facts: &Facts<'a>,
    outcome: &mut Outcome,
) {
    let settings: Value = serde_json::from_str(text_of_settings).unwrap_or_default();
    match Record::of(&settings) {
        Some(Record { setting, key, .. }) => recorder(label, proxy, (setting, key), facts, outcome),
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

/// An EnvoyFilter must record the peer in the proxies in which the filter runs. The key comes with the setting that names it.
fn recorder<'a>(
    label: &str,
    proxy: &Proxy<'a>,
    (setting, key): (&str, &str),
    facts: &'a Facts<'a>,
    outcome: &mut Outcome,
) {
    let of_key = || facts.recorded.iter().filter(|recorded| recorded.key == key);
    let all: Vec<&Recorded<'a>> = of_key().collect();
    let before: Vec<&Recorded<'a>> = of_key().filter(|recorded| recorded.is_before).collect();
    let role = Role::recorder(key);
    let missing = |recorded: &[&'a Recorded<'a>]| {
        gap::first(&proxy.known, recorded, |workload, recorded| {
            proxy.gap(workload, recorded.manifest, recorded.context, &role, facts)
        })
        .map(|(recorded, gap)| (recorded.manifest.label(), gap))
    };
    if all.is_empty() && facts.has_envoy_filter {
        outcome.fail(
            format!("{label}: no EnvoyFilter records `{key}` ({setting}), so every peer is unknown and untrusted"),
            "apply envoy/istio/envoyfilter.yaml, with the same key",
        );
    } else if all.is_empty() {
        outcome.skip(format!(
            "{label}: `{key}` is recorded by an EnvoyFilter; lint both together, as envoy/istio/*.yaml"
        ));
    } else if let Some((other, gap)) = missing(&all) {
        gap.report(label, &other, &role, outcome);
    } else if before.is_empty() || missing(&before).is_some() {
        outcome.fail(
            format!("{label}: the EnvoyFilter that records `{key}` does not insert it before the connection manager"),
            "set operation: INSERT_BEFORE and match the filter envoy.filters.network.http_connection_manager",
        );
    } else {
        outcome.right(format!(
            "{label}: an EnvoyFilter records the peer in `{key}`"
        ));
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
    let has_last = |context: &Context| {
        let mut own = routes
            .iter()
            .filter(|patch| Context::of_patch(patch).is_none_or(|of_patch| of_patch == *context));
        let last = own.next_back();
        last.is_some_and(|patch| rejects_everything(&normalized(patch["patch"]["value"].clone())))
    };
    if guards_all && !guarded.iter().all(has_last) {
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

/// Returns the kind of proxy that a plugin is for, as far as the manifests say it.
fn context_of(spec: &Value, workloads: &Workloads<'_>, facts: &Facts<'_>) -> Option<Context> {
    let modes: Vec<&Value> = items(&spec["match"])
        .map(|selector| &selector["mode"])
        .collect();
    let all_are = |mode: &str| !modes.is_empty() && modes.iter().all(|own| *own == mode);
    let targets = items(&spec["targetRefs"]).chain(spec.get("targetRef"));
    let mut contexts = targets.filter_map(|target| match target["kind"].as_str()? {
        "Service" | "ServiceEntry" => Some(Context::Waypoint),
        "Gateway" => {
            let mut gateways = facts.gateways_of(Group::GatewayApi);
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
    // The listeners of a gateway are those of a client, and those of a waypoint are those of a server.
    contexts.next().or_else(|| {
        if all_are("SERVER") {
            Some(if workloads.has_targets() {
                Context::Waypoint
            } else {
                Context::SidecarInbound
            })
        } else if all_are("CLIENT") || workloads.has_gateway(facts) {
            Some(Context::Gateway)
        } else {
            None
        }
    })
}

/// The ports on which an ingress gateway of Istio listens for https.
const TLS_PORTS: [u64; 2] = [443, 8443];
