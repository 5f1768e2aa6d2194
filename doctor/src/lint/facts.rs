//! Collects what the check of one manifest needs from the others: recorded peers, guards, settings, Gateways, modules.

use serde_json::Value;

use crate::lint::context::{Context, guarded_context};
use crate::lint::document::{Group, Manifest, normalized};
use crate::lint::message::{items, text};
use crate::lint::peer_source::CONNECTION_EVENTS;
use crate::lint::presence::is_rbac_guard;
use crate::lint::settings;

/// What one manifest needs from the others.
pub(crate) struct Facts<'a> {
    /// The filter state keys that network filters record.
    pub(crate) recorded: Vec<Recorded<'a>>,
    /// True if an EnvoyFilter concerns the filter.
    pub(crate) has_envoy_filter: bool,
    /// The guards that EnvoyFilters add.
    pub(crate) guards: Vec<Guard<'a>>,
    /// The RBAC guards that EnvoyPatchPolicies add.
    pub(crate) listener_guards: Vec<ListenerGuard<'a>>,
    /// The plugins' settings.
    pub(crate) settings: Vec<String>,
    /// True if a mesh configuration or annotation trusts a number of proxies.
    pub(crate) trusts_hops: bool,
    /// The Gateways.
    pub(crate) gateways: Vec<&'a Manifest>,
    /// The namespace and the labels of pods.
    pub(crate) pods: Vec<(Option<&'a str>, &'a Value)>,
    /// The namespace whose objects of Istio apply to every namespace.
    pub(crate) root_namespace: String,
    /// All manifests.
    pub(crate) manifests: Vec<&'a Manifest>,
    /// The modules that EnvoyProxies register; `None` without an EnvoyProxy.
    pub(crate) modules: Option<Vec<&'a Value>>,
}

/// What a network filter of an EnvoyFilter records.
pub(crate) struct Recorded<'a> {
    /// The EnvoyFilter.
    pub(crate) manifest: &'a Manifest,
    /// The filter state key.
    pub(crate) key: String,
    /// True if it is directly before the connection manager.
    pub(crate) is_before: bool,
    /// The proxies that it is added to; `None` if the patch names none.
    pub(crate) context: Option<Context>,
}

/// A patch of an EnvoyFilter that rejects requests without the filter's mark.
pub(crate) struct Guard<'a> {
    /// The EnvoyFilter.
    pub(crate) manifest: &'a Manifest,
    /// The proxies that it is added to; `None` if the patch names none.
    pub(crate) context: Option<Context>,
    /// True for a condition of the routes, false for an RBAC filter.
    pub(crate) is_of_routes: bool,
}

/// A patch of an EnvoyPatchPolicy that rejects requests without the filter's mark.
pub(crate) struct ListenerGuard<'a> {
    /// The EnvoyPatchPolicy.
    pub(crate) manifest: &'a Manifest,
    /// The name of the listener that is patched.
    pub(crate) listener: &'a str,
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
        let patches = || {
            of_kind("EnvoyFilter").flat_map(|filter| {
                items(&filter.spec()["configPatches"]).map(move |patch| (filter, patch))
            })
        };
        let recorded = patches()
            .filter(|(_, patch)| patch["applyTo"] == "NETWORK_FILTER")
            .flat_map(|(manifest, patch)| {
                let value = normalized(patch["patch"]["value"].clone());
                let is_before = patch["patch"]["operation"] == "INSERT_BEFORE"
                    && patch
                        .pointer("/match/listener/filterChain/filter/name")
                        .is_some_and(|name| name == CONNECTION_MANAGER);
                CONNECTION_EVENTS
                    .iter()
                    .flat_map(|event| items(&value["typed_config"][event]))
                    .map(|state| Recorded {
                        manifest,
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
        let guard = |(manifest, patch): (&'a Manifest, &'a Value)| {
            let is_of_routes = guarded_context(patch).is_some();
            let is_guard = is_of_routes || contains_rbac_guard(&normalized(patch.clone()));
            is_guard.then(|| Guard {
                manifest,
                context: Context::of_patch(patch),
                is_of_routes,
            })
        };
        let listener_guards = of_kind("EnvoyPatchPolicy").flat_map(|manifest| {
            items(&manifest.spec()["jsonPatches"])
                .filter(|patch| contains_rbac_guard(&normalized((*patch).clone())))
                .map(move |patch| ListenerGuard {
                    manifest,
                    listener: patch["name"].as_str().unwrap_or_default(),
                })
        });
        let modules: Vec<Vec<&Value>> = of_kind("EnvoyProxy")
            .map(|proxy| items(&proxy.spec()["dynamicModules"]).collect())
            .collect();
        Self {
            recorded,
            has_envoy_filter: of_kind("EnvoyFilter").any(concerns_filter),
            guards: patches().filter_map(guard).collect(),
            listener_guards: listener_guards.collect(),
            settings: plugin_settings.collect(),
            trusts_hops: manifests
                .iter()
                .any(|manifest| trusts_hops(&manifest.object)),
            gateways: of_kind("Gateway").collect(),
            modules: (!modules.is_empty()).then(|| modules.concat()),
            pods: manifests
                .iter()
                .filter_map(|manifest| pod(manifest))
                .collect(),
            root_namespace: manifests
                .iter()
                .find_map(|manifest| root_namespace(&manifest.object))
                .unwrap_or_else(|| ROOT_NAMESPACE.to_owned()),
            manifests: manifests.to_vec(),
        }
    }

    /// Returns the manifests of a kind.
    pub(crate) fn of_kind<'b>(&'b self, kind: &'b str) -> impl Iterator<Item = &'a Manifest> + 'b {
        let manifests = self.manifests.iter().copied();
        manifests.filter(move |manifest| manifest.kind == kind)
    }

    /// Returns the Gateways of an API group.
    pub(crate) fn gateways_of(&self, group: Group) -> impl Iterator<Item = &'a Manifest> + '_ {
        let gateways = self.gateways.iter().copied();
        gateways.filter(move |gateway| gateway.group() == group)
    }
}

/// Returns the namespace and the labels of the pods that an object makes.
fn pod(manifest: &Manifest) -> Option<(Option<&str>, &Value)> {
    let labels = manifest
        .spec()
        .pointer("/template/metadata/labels")
        .or_else(|| {
            manifest
                .object
                .pointer("/metadata/labels")
                .filter(|_| manifest.kind == "Pod")
        })?;
    Some((manifest.namespace(), labels))
}

/// Returns the root namespace that a mesh configuration names, wherever it is in the object.
fn root_namespace(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let own = value.as_str().filter(|_| name == "rootNamespace");
            own.map(str::to_owned).or_else(|| root_namespace(value))
        }),
        Value::Array(items) => items.iter().find_map(root_namespace),
        // A config map contains it as text.
        Value::String(text) => text.lines().find_map(|line| {
            let name = line.trim().strip_prefix("rootNamespace:")?;
            Some(name.trim().trim_matches('"').to_owned())
        }),
        _ => None,
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

/// The default of `meshConfig.rootNamespace`, <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/>.
const ROOT_NAMESPACE: &str = "istio-system";

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
