//! Checks EnvoyExtensionPolicies and ClientTrafficPolicies of Envoy Gateway (F01 to F04, F06 to F08).

use serde_json::Value;

use crate::lint::attachment::{self, Attachment};
use crate::lint::document::Manifest;
use crate::lint::facts::{Facts, is_ours};
use crate::lint::gap::{self, Role};
use crate::lint::message::{items, text};
use crate::lint::outcomes::Outcomes;
use crate::lint::peer_source::Record;
use crate::lint::sockets::duration;
use crate::lint::{failure, local_replies, settings};
use crate::outcome::Outcome;

/// Checks the filters and the dynamic modules of an EnvoyExtensionPolicy.
pub(crate) fn extension_policy<'a>(
    manifest: &'a Manifest,
    facts: &Facts<'a>,
    outcomes: &mut Outcomes,
) {
    let label = manifest.label();
    for Plugin {
        plugin,
        is_module,
        config,
    } in plugins(manifest)
    {
        settings::check(&label, &config, &mut outcomes.offline);
        local_replies::not_in_manifests(&label, &mut outcomes.local_replies);
        if is_module {
            module(&label, &plugin["name"], facts, outcomes);
        } else if plugin["failOpen"] == true {
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
        presence(manifest, facts, &mut outcomes.presence);
        let settings: Value = serde_json::from_str(&config).unwrap_or_default();
        let Some(Record { setting, .. }) = Record::of(&settings) else {
            // The ClientTrafficPolicy says itself what it does.
            if facts.of_kind("ClientTrafficPolicy").next().is_none() {
                outcomes.peer_source.skip(format!(
                    "{label}: a header replaces source.address if a ClientTrafficPolicy has clientIPDetection; lint both together"
                ));
            }
            continue;
        };
        outcomes.peer_source.skip(format!(
            "{label}: {setting} is recorded by an EnvoyPatchPolicy; lint a dump of the proxy (/config_dump)"
        ));
    }
}

/// A plugin of a policy with the FluxLit filter.
struct Plugin<'a> {
    plugin: &'a Value,
    is_module: bool,
    /// The text that the filter gets.
    config: String,
}

/// Returns the plugins of a policy that are the FluxLit filter.
fn plugins(policy: &Manifest) -> impl Iterator<Item = Plugin<'_>> {
    let wasm = items(&policy.spec()["wasm"]).map(|plugin| (plugin, false));
    let modules = items(&policy.spec()["dynamicModule"]).map(|plugin| (plugin, true));
    wasm.chain(modules).filter_map(|(plugin, is_module)| {
        let config = match &plugin["config"] {
            Value::Null => String::new(),
            config => config.to_string(),
        };
        is_ours(policy, plugin, &config).then_some(Plugin {
            plugin,
            is_module,
            config,
        })
    })
}

/// The filter must be in the Gateways of the files, and the guard where the filter is.
fn presence<'a>(policy: &'a Manifest, facts: &Facts<'a>, outcome: &mut Outcome) {
    let label = policy.label();
    if let Some(misplaced) = attachment::misplaced(policy, facts) {
        misplaced.report(&label, outcome);
        return;
    }
    if facts.listener_guards.is_empty() {
        outcome.fail(
            format!(
                "{label}: Envoy Gateway disables the filter in the filter chain and enables it on the routes of the policy, so \
                 404s and other routes bypass it"
            ),
            "insert envoy/rbac-guard.yaml before the router with an EnvoyPatchPolicy, and lint both together",
        );
        return;
    }
    let places = Attachment::forwarding(policy, facts);
    let missing = gap::first(&places, &facts.listener_guards, |place, guard| {
        place.gap_of_guard(guard, facts)
    });
    match missing {
        None => outcome.right(format!(
            "{label}: an EnvoyPatchPolicy rejects requests without the filter's mark"
        )),
        Some((guard, gap)) => gap.report(&label, &guard.manifest.label(), &Role::guard(), outcome),
    }
}

/// Returns true if a ClientTrafficPolicy is for none of the Gateways with the filter. It is a warning if no other one is.
fn is_for_others<'a>(manifest: &'a Manifest, facts: &Facts<'a>, outcome: &mut Outcome) -> bool {
    let policies = facts
        .of_kind("EnvoyExtensionPolicy")
        .filter(|policy| plugins(policy).next().is_some())
        .filter(|policy| attachment::misplaced(policy, facts).is_none());
    let filters: Vec<(&Manifest, Vec<Attachment<'_>>)> = policies
        .map(|policy| (policy, Attachment::of(policy, facts)))
        .collect();
    let gap = |places: &[Attachment<'a>], other: &'a Manifest| {
        gap::first(places, &[other], |place, other| place.gap(other, facts)).map(|(_, gap)| gap)
    };
    let is_for_none = !filters.is_empty()
        && filters
            .iter()
            .all(|(_, places)| gap(places, manifest).is_some());
    for (policy, places) in filters.iter().filter(|_| is_for_none) {
        let mut others = facts.of_kind("ClientTrafficPolicy");
        let has_other = others.any(|other| gap(places, other).is_none());
        if let (false, Some(gap)) = (has_other, gap(places, manifest)) {
            let role = Role {
                does: "says where addresses come from and which paths are rejected".to_owned(),
                otherwise: "its settings do not apply there",
                is_optional: true,
            };
            gap.report(&policy.label(), &manifest.label(), &role, outcome);
        }
    }
    is_for_none
}

/// Checks the module that a policy names against what the EnvoyProxies register.
fn module(label: &str, name: &Value, facts: &Facts<'_>, outcomes: &mut Outcomes) {
    let Some(modules) = &facts.modules else {
        outcomes.failure.skip(format!(
            "{label}: the module `{}` is registered by an EnvoyProxy; lint both together",
            text(name)
        ));
        return;
    };
    match modules.iter().find(|module| module["name"] == *name) {
        Some(module) => {
            let stays = module["doNotClose"] == true;
            failure::module(label, stays, "doNotClose", &mut outcomes.failure);
        }
        None => outcomes.failure.fail(
            format!(
                "{label}: no EnvoyProxy of these files registers the module `{}`",
                text(name)
            ),
            format!(
                "add {{name: {}, source: {{type: Local, local: {{path: /usr/lib/envoy/libfluxlit_module.so}}}}, doNotClose: true}} to \
                 spec.dynamicModules of the EnvoyProxy",
                text(name)
            ),
        ),
    }
}

/// Checks a ClientTrafficPolicy.
pub(crate) fn client_traffic_policy<'a>(
    manifest: &'a Manifest,
    facts: &Facts<'a>,
    outcomes: &mut Outcomes,
) {
    if is_for_others(manifest, facts, &mut outcomes.peer_source) {
        return;
    }
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
    if spec["clientIPDetection"].is_null() {
        outcomes
            .peer_source
            .right(format!("{label}: no header replaces source.address"));
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
    outcomes
        .path
        .right(format!("{label}: path normalization is not switched off"));
    outcomes
        .sockets
        .right(format!("{label}: no idle limit ends a WebSocket"));
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
