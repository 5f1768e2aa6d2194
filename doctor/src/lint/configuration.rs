//! Reads what one document says of an Envoy: a bootstrap, a dump of a running one, or a file of resources.

use serde_json::Value;

use crate::lint::message::{items, kind_of};

/// What one document says of an Envoy.
#[derive(Debug, Clone)]
pub struct Configuration {
    pub(crate) source: Source,
    pub(crate) listeners: Vec<Value>,
    pub(crate) clusters: Vec<Value>,
    pub(crate) routes: Vec<Value>,
    /// Configurations of filters that a listener names.
    pub(crate) extensions: Vec<Value>,
}

/// The kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A bootstrap. `is_dynamic`: listeners come from elsewhere.
    Bootstrap { is_dynamic: bool },
    /// The answer of `/config_dump`.
    Dump,
    /// A file of resources that Envoy watches in place of a configuration server.
    Resources,
}

impl Configuration {
    /// Reads a bootstrap, a dump or a file of resources, with field names in `snake_case`; `None` if the value is none of them.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        if let Some(parts) = value.get("configs").and_then(Value::as_array) {
            return Some(Self::read_dump(parts));
        }
        if let Some(resources) = value.get("resources").and_then(Value::as_array) {
            let is_message = |resource: &Value| !kind_of(resource).is_empty();
            let found = Found::of_resources(resources);
            return resources
                .iter()
                .all(is_message)
                .then(|| found.into_configuration(Source::Resources));
        }
        let servers = value.get("dynamic_resources");
        let resources = value.get("static_resources").or(servers)?;
        let found = Found {
            listeners: items(&resources["listeners"]).collect(),
            clusters: items(&resources["clusters"]).collect(),
            ..Found::default()
        };
        let is_dynamic = servers.is_some_and(|servers| servers.get("lds_config").is_some());
        Some(found.into_configuration(Source::Bootstrap { is_dynamic }))
    }

    /// Returns true for a bootstrap.
    pub(crate) fn is_bootstrap(&self) -> bool {
        matches!(self.source, Source::Bootstrap { .. })
    }

    fn read_dump(parts: &[Value]) -> Self {
        let mut found = Found::default();
        for part in parts {
            let kind = kind_of(part);
            let of = |lists: &'static [&'static str], inner: &'static str| {
                lists
                    .iter()
                    .flat_map(|list| items(&part[*list]))
                    .map(move |item| &item[inner])
                    .filter(|item| !item.is_null())
            };
            match kind {
                "ListenersConfigDump" => {
                    found
                        .listeners
                        .extend(of(&["static_listeners"], "listener"));
                    let dynamic = items(&part["dynamic_listeners"])
                        .map(|listener| &listener["active_state"]["listener"])
                        .filter(|listener| !listener.is_null());
                    found.listeners.extend(dynamic);
                }
                "ClustersConfigDump" => {
                    found.clusters.extend(of(
                        &["static_clusters", "dynamic_active_clusters"],
                        "cluster",
                    ));
                }
                "RoutesConfigDump" => {
                    found.routes.extend(of(
                        &["static_route_configs", "dynamic_route_configs"],
                        "route_config",
                    ));
                }
                "EcdsConfigDump" => {
                    found
                        .extensions
                        .extend(of(&["ecds_filters"], "ecds_filter"));
                }
                // The answer to `/config_dump?resource=...` lists the items themselves.
                "StaticListener" => found.listeners.push(&part["listener"]),
                "DynamicListener" => found.listeners.push(&part["active_state"]["listener"]),
                "StaticRouteConfig" | "DynamicRouteConfig" => {
                    found.routes.push(&part["route_config"]);
                }
                "EcdsFilterConfig" => found.extensions.push(&part["ecds_filter"]),
                _ => {}
            }
        }
        found.into_configuration(Source::Dump)
    }
}

#[derive(Default)]
struct Found<'a> {
    listeners: Vec<&'a Value>,
    clusters: Vec<&'a Value>,
    routes: Vec<&'a Value>,
    extensions: Vec<&'a Value>,
}

impl<'a> Found<'a> {
    fn of_resources(resources: &'a [Value]) -> Self {
        let mut found = Self::default();
        for resource in resources {
            match kind_of(resource) {
                "Listener" => found.listeners.push(resource),
                "Cluster" => found.clusters.push(resource),
                "RouteConfiguration" => found.routes.push(resource),
                "TypedExtensionConfig" => found.extensions.push(resource),
                _ => {}
            }
        }
        found
    }

    fn into_configuration(self, source: Source) -> Configuration {
        let owned = |values: Vec<&Value>| values.into_iter().cloned().collect();
        Configuration {
            source,
            listeners: owned(self.listeners),
            clusters: owned(self.clusters),
            routes: owned(self.routes),
            extensions: owned(self.extensions),
        }
    }
}
