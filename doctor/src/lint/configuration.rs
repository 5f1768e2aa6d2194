//! Reads what one document says of an Envoy: a bootstrap, a dump of a running one, a file of resources, or one filter.

use serde_json::Value;

use crate::lint::message::{items, kind_of};

/// What one document says of an Envoy, or several documents together.
#[derive(Debug, Clone)]
pub struct Configuration {
    pub(crate) source: Source,
    pub(crate) listeners: Vec<Value>,
    pub(crate) clusters: Vec<Value>,
    /// True if no server and no other file adds clusters.
    pub(crate) has_all_clusters: bool,
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
    /// A file of resources that Envoy watches in place of a configuration server, or a filter by itself.
    Resources,
}

impl Configuration {
    /// Reads a bootstrap, a dump, a file of resources or a filter, with field names in `snake_case`; `None` if the value is none
    /// of them.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        if let Some(parts) = value.get("configs").and_then(Value::as_array) {
            return Some(Self::read_dump(parts));
        }
        if let Some(resources) = value.get("resources").and_then(Value::as_array) {
            let is_message = |resource: &Value| !kind_of(resource).is_empty();
            return resources
                .iter()
                .all(is_message)
                .then(|| Self::of_resources(resources));
        }
        // A filter by itself has the fields of a `TypedExtensionConfig`.
        if value.get("name").is_some() && !kind_of(&value["typed_config"]).is_empty() {
            let mut found = Self::new(Source::Resources);
            found.extensions.push(value.clone());
            return Some(found);
        }
        let servers = value.get("dynamic_resources");
        let resources = value.get("static_resources").or(servers)?;
        let is_dynamic = servers.is_some_and(|servers| servers.get("lds_config").is_some());
        let adds_clusters = servers.is_some_and(|servers| {
            CLUSTER_SERVERS
                .iter()
                .any(|name| servers.get(*name).is_some())
        });
        Some(Self {
            listeners: items(&resources["listeners"]).cloned().collect(),
            clusters: items(&resources["clusters"]).cloned().collect(),
            has_all_clusters: !adds_clusters,
            ..Self::new(Source::Bootstrap { is_dynamic })
        })
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            listeners: Vec::new(),
            clusters: Vec::new(),
            has_all_clusters: false,
            routes: Vec::new(),
            extensions: Vec::new(),
        }
    }

    /// Adds what another document contains, its listeners only if `with_listeners`.
    pub(crate) fn add(&mut self, other: &Self, with_listeners: bool) {
        if with_listeners {
            self.listeners.extend_from_slice(&other.listeners);
        }
        self.clusters.extend_from_slice(&other.clusters);
        self.routes.extend_from_slice(&other.routes);
        self.extensions.extend_from_slice(&other.extensions);
    }

    /// Returns true for a bootstrap.
    pub(crate) fn is_bootstrap(&self) -> bool {
        matches!(self.source, Source::Bootstrap { .. })
    }

    fn of_resources(resources: &[Value]) -> Self {
        let mut found = Self::new(Source::Resources);
        for resource in resources {
            let list = match kind_of(resource) {
                "Listener" => &mut found.listeners,
                "Cluster" => &mut found.clusters,
                "RouteConfiguration" => &mut found.routes,
                "TypedExtensionConfig" => &mut found.extensions,
                _ => continue,
            };
            list.push(resource.clone());
        }
        found
    }

    fn read_dump(parts: &[Value]) -> Self {
        let mut found = Self::new(Source::Dump);
        for part in parts {
            let kind = kind_of(part);
            let of = |lists: &'static [&'static str], inner: &'static str| {
                lists
                    .iter()
                    .flat_map(|list| items(&part[*list]))
                    .map(move |item| &item[inner])
                    .filter(|item| !item.is_null())
                    .cloned()
            };
            match kind {
                "ListenersConfigDump" => {
                    found
                        .listeners
                        .extend(of(&["static_listeners"], "listener"));
                    let dynamic = items(&part["dynamic_listeners"])
                        .map(|listener| &listener["active_state"]["listener"])
                        .filter(|listener| !listener.is_null());
                    found.listeners.extend(dynamic.cloned());
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
                "StaticListener" => found.listeners.push(part["listener"].clone()),
                "DynamicListener" => {
                    found
                        .listeners
                        .push(part["active_state"]["listener"].clone());
                }
                "StaticRouteConfig" | "DynamicRouteConfig" => {
                    found.routes.push(part["route_config"].clone());
                }
                "EcdsFilterConfig" => found.extensions.push(part["ecds_filter"].clone()),
                _ => {}
            }
        }
        found
    }
}

/// Fields of `dynamic_resources` from which clusters can come.
const CLUSTER_SERVERS: [&str; 2] = ["cds_config", "ads_config"];
