//! Collects what the check of one manifest needs from the others: recorded peers, guards, settings, Gateways, modules.

use serde_json::Value;

use crate::lint::context::{Context, guarded_context};
use crate::lint::document::{Manifest, normalized};
use crate::lint::message::{items, text};
use crate::lint::peer_source::CONNECTION_EVENTS;
use crate::lint::presence::is_rbac_guard;
use crate::lint::settings;

/// What one manifest needs from the others.
pub(crate) struct Facts<'a> {
    /// The filter state keys that network filters record.
    pub(crate) recorded: Vec<Recorded>,
    /// True if an EnvoyFilter concerns the filter.
    pub(crate) has_envoy_filter: bool,
    /// True if some patch adds the RBAC guard.
    pub(crate) has_rbac_guard: bool,
    /// The proxies in which an EnvoyFilter guards every route.
    pub(crate) guarded: Vec<Context>,
    /// The plugins' settings.
    pub(crate) settings: Vec<String>,
    /// True if a mesh configuration or annotation trusts a number of proxies.
    pub(crate) trusts_hops: bool,
    /// The Gateways.
    pub(crate) gateways: Vec<&'a Manifest>,
    /// The modules that EnvoyProxies register; `None` without an EnvoyProxy.
    pub(crate) modules: Option<Vec<&'a Value>>,
    /// True if a ClientTrafficPolicy says where the address of a client comes from.
    pub(crate) has_client_traffic_policy: bool,
}

/// What a network filter of an EnvoyFilter records.
pub(crate) struct Recorded {
    /// The filter state key.
    pub(crate) key: String,
    /// True if it is directly before the connection manager.
    pub(crate) is_before: bool,
    /// The proxies that it is added to; `None` if they are of another kind.
    pub(crate) context: Option<Context>,
}

impl<'a> Facts<'a> {
    /// Reads all manifests of a run.
    pub(crate) fn of(manifests: &[&'a Manifest]) -> Self {
        let of_kind = |kind: &'static str| {
            manifests
                .iter()
                .copied()
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
                    .map(|state| Recorded {
                        key: text(&state["object_key"]),
                        is_before,
                        context: Context::of_patch(patch),
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        let plugin_settings = of_kind("WasmPlugin")
            .map(|plugin| plugin_settings(plugin.spec()))
            .chain(
                of_kind("TrafficExtension").map(|plugin| plugin_settings(&plugin.spec()["wasm"])),
            )
            .chain(of_kind("EnvoyExtensionPolicy").flat_map(|policy| {
                let wasm = items(&policy.spec()["wasm"]);
                wasm.chain(items(&policy.spec()["dynamicModule"]))
                    .map(|plugin| plugin["config"].to_string())
            }));
        let modules: Vec<Vec<&Value>> = of_kind("EnvoyProxy")
            .map(|proxy| items(&proxy.spec()["dynamicModules"]).collect())
            .collect();
        Self {
            recorded,
            has_envoy_filter: of_kind("EnvoyFilter").any(concerns_filter),
            has_rbac_guard: manifests
                .iter()
                .any(|manifest| contains_rbac_guard(&normalized(manifest.object.clone()))),
            guarded: patches().filter_map(guarded_context).collect(),
            settings: plugin_settings.collect(),
            trusts_hops: manifests
                .iter()
                .any(|manifest| trusts_hops(&manifest.object)),
            gateways: of_kind("Gateway").collect(),
            modules: (!modules.is_empty()).then(|| modules.concat()),
            has_client_traffic_policy: of_kind("ClientTrafficPolicy").next().is_some(),
        }
    }
}

/// Returns true if a patch of an EnvoyFilter names the filter or what it stores.
pub(crate) fn concerns_filter(manifest: &Manifest) -> bool {
    let mut patches = items(&manifest.spec()["configPatches"]);
    patches.any(|patch| patch.to_string().contains("fluxlit"))
}

pub(crate) fn contains_rbac_guard(value: &Value) -> bool {
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

/// Returns true for a plugin with the FluxLit filter: its names or its place say so, or its configuration is one of ours.
pub(crate) fn is_ours(manifest: &Manifest, plugin: &Value, settings: &str) -> bool {
    let is_named = |value: &Value| value.as_str().is_some_and(|text| text.contains("fluxlit"));
    manifest.name.contains("fluxlit")
        || [
            &plugin["url"],
            &plugin["pluginName"],
            &plugin["name"],
            &plugin["rootID"],
            &plugin["filterName"],
        ]
        .into_iter()
        .any(is_named)
        || plugin.pointer("/code/image/url").is_some_and(is_named)
        || plugin.pointer("/code/http/url").is_some_and(is_named)
        || settings::are_ours(settings)
}

/// Returns the text that the filter gets: Istio sends none for an empty object.
pub(crate) fn plugin_settings(spec: &Value) -> String {
    match &spec["pluginConfig"] {
        Value::Object(settings) if !settings.is_empty() => {
            Value::Object(settings.clone()).to_string()
        }
        _ => String::new(),
    }
}

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
