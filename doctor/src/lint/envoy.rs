//! Finds listeners, filters and routes in a configuration of Envoy, wherever it comes from.
//!
//! A bootstrap contains them as written. A dump contains the bootstrap, what listeners were made of it, what the
//! configuration servers have sent since (routes by RDS, filters by ECDS), and only that counts. Fields with a default value
//! are absent from a dump. What Envoy reads from files instead of a server (`resources`) is joined with the bootstraps of the
//! same run.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fluxlit_policy::{Defaults, Policy};
use serde_json::Value;

use crate::lint::configuration::{Configuration, Source};
use crate::lint::message::{items, kind_of, text};

/// The configuration of an Envoy.
#[derive(Debug, Clone)]
pub(crate) struct Envoy {
    /// True for a dump of a running Envoy: then routes and filters from elsewhere are included.
    pub(crate) is_dump: bool,
    /// FluxLit filters that no listener of these documents names.
    pub(crate) unplaced: Vec<HttpFilter>,
    /// The connection managers, with the listener that each belongs to.
    pub(crate) managers: Vec<Manager>,
    /// The clusters by name.
    pub(crate) clusters: BTreeMap<String, Value>,
    /// True if there can be no other clusters.
    pub(crate) has_all_clusters: bool,
}

/// A connection manager in a filter chain.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    /// The name of the listener.
    pub(crate) listener: String,
    /// The address of the listener, such as `127.0.0.1:10000`; empty if it is no IP address.
    pub(crate) address: String,
    /// True if the filter chain terminates TLS.
    pub(crate) has_tls: bool,
    /// True for a listener that only other listeners of the same Envoy reach.
    pub(crate) is_internal: bool,
    /// A host of TLS (SNI) that selects the filter chain; `None` if any does.
    pub(crate) server_name: Option<String>,
    /// The protocols that TLS offers by ALPN.
    pub(crate) alpn: Vec<String>,
    /// The filters of the listener, before any filter chain.
    pub(crate) listener_filters: Vec<Value>,
    /// The network filters before the connection manager, in order.
    pub(crate) network_filters: Vec<Value>,
    /// The configuration of the connection manager.
    pub(crate) config: Value,
    /// The HTTP filters, with the configuration that applies to them.
    pub(crate) filters: Vec<HttpFilter>,
    /// The routes.
    pub(crate) routes: Routes,
}

/// An HTTP filter of a connection manager.
#[derive(Debug, Clone)]
pub(crate) struct HttpFilter {
    pub(crate) name: String,
    /// True if it runs only for routes that enable it.
    pub(crate) is_disabled: bool,
    /// The configuration; `Null` if it comes from a server and is not known.
    pub(crate) config: Value,
    /// The part of the configuration that says from where Envoy gets the rest.
    pub(crate) discovery: Value,
}

/// The routes of a connection manager.
#[derive(Debug, Clone)]
pub(crate) enum Routes {
    /// The route configuration.
    Known(Value),
    /// They come from elsewhere; the text says from where.
    Elsewhere(String),
}

/// The FluxLit filter, and where it is.
pub(crate) struct Ours<'a> {
    pub(crate) manager: &'a Manager,
    /// Its index in the HTTP filters.
    pub(crate) position: usize,
    pub(crate) filter: &'a HttpFilter,
}

impl Envoy {
    /// Returns the Envoys that the documents of a run describe. A file of resources belongs to every bootstrap of the run; without
    /// one, such files are an Envoy of their own.
    pub(crate) fn all(documents: &[&Configuration]) -> Vec<Self> {
        let (resources, others): (Vec<&Configuration>, Vec<&Configuration>) = documents
            .iter()
            .partition(|document| document.source == Source::Resources);
        let mut envoys = Vec::new();
        let mut has_dynamic = false;
        for document in &others {
            let mut whole = (*document).clone();
            let is_dynamic = document.source == Source::Bootstrap { is_dynamic: true };
            has_dynamic |= is_dynamic;
            for resource in resources.iter().filter(|_| document.is_bootstrap()) {
                whole.add(resource, is_dynamic);
            }
            envoys.push(Self::of(&whole));
        }
        if let [first, rest @ ..] = &resources[..] {
            let mut whole = (*first).clone();
            for resource in rest {
                whole.add(resource, true);
            }
            if others.is_empty() || (!has_dynamic && !whole.listeners.is_empty()) {
                envoys.push(Self::of(&whole));
            }
        }
        envoys
    }

    fn of(configuration: &Configuration) -> Self {
        let is_dump = configuration.source == Source::Dump;
        let mut managers = Vec::new();
        for listener in &configuration.listeners {
            let chains =
                items(&listener["filter_chains"]).chain(listener.get("default_filter_chain"));
            for chain in chains {
                managers.extend(configuration.manager(listener, chain));
            }
        }
        let is_placed = |name: &str| {
            let mut filters = managers
                .iter()
                .flat_map(|manager: &Manager| &manager.filters);
            filters.any(|filter| filter.name == name && !filter.discovery.is_null())
        };
        let extensions = configuration.extensions.iter().map(|extension| HttpFilter {
            name: text(&extension["name"]),
            is_disabled: false,
            config: extension["typed_config"].clone(),
            discovery: Value::Null,
        });
        let clusters = configuration.clusters.iter();
        Self {
            is_dump,
            unplaced: extensions
                .filter(|filter| !is_dump && filter.is_ours() && !is_placed(&filter.name))
                .collect(),
            managers,
            clusters: clusters
                .map(|cluster| (text(&cluster["name"]), cluster.clone()))
                .collect(),
            has_all_clusters: configuration.has_all_clusters,
        }
    }

    /// Returns the FluxLit filters of all connection managers.
    pub(crate) fn ours(&self) -> impl Iterator<Item = Ours<'_>> {
        self.managers.iter().filter_map(Manager::ours)
    }
}

impl Configuration {
    fn manager(&self, listener: &Value, chain: &Value) -> Option<Manager> {
        let filters: Vec<&Value> = items(&chain["filters"]).collect();
        let is_manager =
            |filter: &&Value| kind_of(&filter["typed_config"]) == "HttpConnectionManager";
        let position = filters.iter().position(is_manager)?;
        let config = filters.get(position)?["typed_config"].clone();
        let network_filters = filters.iter().take(position);
        let tls = &chain["transport_socket"]["typed_config"];
        let alpn = items(&tls["common_tls_context"]["alpn_protocols"]).chain(items(
            &tls["downstream_tls_context"]["common_tls_context"]["alpn_protocols"],
        ));
        let socket = &listener["address"]["socket_address"];
        let address = match (socket["address"].as_str(), socket["port_value"].as_u64()) {
            (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
            (Some(host), Some(port)) => format!("{host}:{port}"),
            _ => String::new(),
        };
        Some(Manager {
            listener: Some(text(&listener["name"]))
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| address.clone()),
            address,
            has_tls: matches!(
                kind_of(tls),
                "DownstreamTlsContext" | "QuicDownstreamTransport"
            ),
            is_internal: listener.get("internal_listener").is_some(),
            server_name: items(&chain["filter_chain_match"]["server_names"])
                .next()
                .map(|name| text(name).replace("*.", "doctor.")),
            alpn: alpn.map(text).collect(),
            listener_filters: items(&listener["listener_filters"]).cloned().collect(),
            network_filters: network_filters.map(|filter| (*filter).clone()).collect(),
            filters: items(&config["http_filters"])
                .map(|filter| self.http_filter(filter))
                .collect(),
            routes: self.routes(&config),
            config,
        })
    }

    fn http_filter(&self, filter: &Value) -> HttpFilter {
        let name = text(&filter["name"]);
        let discovery = filter["config_discovery"].clone();
        let config = if discovery.is_null() {
            filter["typed_config"].clone()
        } else {
            let delivered = self
                .extensions
                .iter()
                .find(|extension| text(&extension["name"]) == name);
            delivered.map_or(Value::Null, |extension| extension["typed_config"].clone())
        };
        HttpFilter {
            name,
            is_disabled: filter["disabled"] == true,
            config,
            discovery,
        }
    }

    fn routes(&self, config: &Value) -> Routes {
        if let Some(routes) = config.get("route_config") {
            return Routes::Known(routes.clone());
        }
        let name = &config["rds"]["route_config_name"];
        if name.is_null() {
            return Routes::Elsewhere("scoped routes".to_owned());
        }
        let known = self
            .routes
            .iter()
            .find(|routes| text(&routes["name"]) == text(name));
        known.map_or_else(
            || Routes::Elsewhere(format!("RDS `{}`", text(name))),
            |routes| Routes::Known(routes.clone()),
        )
    }
}

impl Manager {
    /// Returns the FluxLit filter.
    pub(crate) fn ours(&self) -> Option<Ours<'_>> {
        let position = self.filters.iter().position(HttpFilter::is_ours)?;
        Some(Ours {
            manager: self,
            position,
            filter: self.filters.get(position)?,
        })
    }

    /// Returns true if a virtual host redirects every request to https. Envoy decides by the X-Forwarded-Proto of the request, so
    /// the connection manager must overwrite that.
    pub(crate) fn redirects_to_tls(&self, host: &Value) -> bool {
        let hops = self.config["xff_num_trusted_hops"].as_u64().unwrap_or(0);
        host["require_tls"] == "ALL"
            && !self.has_tls
            && self.config["use_remote_address"] == true
            && hops == 0
    }

    /// Returns the virtual hosts, if the routes are known.
    pub(crate) fn virtual_hosts(&self) -> impl Iterator<Item = &Value> {
        let hosts = match &self.routes {
            Routes::Known(routes) => Some(items(&routes["virtual_hosts"])),
            Routes::Elsewhere(_) => None,
        };
        hosts.into_iter().flatten()
    }

    /// Returns each route that forwards requests, with its label.
    pub(crate) fn forwarding_routes(&self) -> impl Iterator<Item = (String, &Value)> {
        self.virtual_hosts()
            .flat_map(|host| self.forwarding_routes_of(host))
    }

    /// Returns each route of a virtual host that forwards requests, with its label.
    pub(crate) fn forwarding_routes_of<'a>(
        &'a self,
        host: &'a Value,
    ) -> impl Iterator<Item = (String, &'a Value)> {
        items(&host["routes"])
            .zip(1..)
            .filter(|(route, _)| route.get("route").is_some())
            .map(move |(route, number)| (self.route_label(host, route, number), route))
    }

    fn route_label(&self, host: &Value, route: &Value, number: usize) -> String {
        let name = match route["name"].as_str() {
            Some(name) if !name.is_empty() => format!("`{name}`"),
            _ => number.to_string(),
        };
        format!(
            "route {name} of virtual host `{}` of listener `{}`",
            text(&host["name"]),
            self.listener
        )
    }

    /// Returns the configuration of the PROXY protocol, if the listener accepts it.
    pub(crate) fn proxy_protocol(&self) -> Option<&Value> {
        self.listener_filters
            .iter()
            .map(|filter| &filter["typed_config"])
            .find(|config| kind_of(config) == "ProxyProtocol")
    }
}

impl HttpFilter {
    /// Returns true for a dynamic module, a shared library that Envoy loads.
    pub(crate) fn is_module(&self) -> bool {
        kind_of(&self.config) == "DynamicModuleFilter"
    }

    /// Returns true for a WebAssembly filter.
    pub(crate) fn is_wasm(&self) -> bool {
        kind_of(&self.config) == "Wasm"
    }

    /// Returns true for the FluxLit filter or module: its names or its file say so, or its configuration is one of ours.
    pub(crate) fn is_ours(&self) -> bool {
        let says = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| text.to_ascii_lowercase().contains("fluxlit"))
        };
        let plugin = self.plugin();
        let code = &plugin["vm_config"]["code"];
        let places = [
            &plugin["name"],
            &plugin["root_id"],
            &plugin["vm_config"]["vm_id"],
            &code["local"]["filename"],
            &code["remote"]["http_uri"]["uri"],
            &self.config["filter_name"],
            &self.config["dynamic_module_config"]["name"],
            &self.config["dynamic_module_config"]["module"]["local"]["filename"],
        ];
        if self.is_wasm() || self.is_module() {
            return self.name.contains("fluxlit")
                || places.into_iter().any(says)
                || self.is_configured_as_ours();
        }
        // The server has not delivered it yet, or it is not part of a bootstrap.
        !self.discovery.is_null() && self.config.is_null() && self.name.contains("fluxlit")
    }

    fn is_configured_as_ours(&self) -> bool {
        let settings = self.settings();
        let is_empty = settings.as_object().is_none_or(serde_json::Map::is_empty);
        !is_empty && Policy::from_json(self.settings_text().as_bytes(), Defaults::FILTER).is_ok()
    }

    /// Returns the plugin configuration of a WebAssembly filter, in Envoy's words.
    pub(crate) fn plugin(&self) -> &Value {
        &self.config["config"]
    }

    /// Returns the text that the filter gets as its configuration; empty if there is none.
    pub(crate) fn settings_text(&self) -> Cow<'_, str> {
        let configuration = if self.is_module() {
            &self.config["filter_config"]
        } else {
            &self.plugin()["configuration"]
        };
        match &configuration["value"] {
            Value::String(text) => Cow::Borrowed(text),
            // A module gets a Struct as JSON, a WebAssembly filter in binary form.
            settings @ Value::Object(_) if self.is_module() => Cow::Owned(settings.to_string()),
            _ => Cow::Borrowed(""),
        }
    }

    /// Returns the settings of the FluxLit filter; `Null` if they are no JSON.
    pub(crate) fn settings(&self) -> Value {
        serde_json::from_str(&self.settings_text()).unwrap_or_default()
    }
}

impl Ours<'_> {
    /// Returns why the settings are not known, if they come from elsewhere.
    pub(crate) fn is_elsewhere(&self) -> Option<String> {
        self.filter.config.is_null().then(|| {
            format!(
                "{}: the configuration of the filter comes from a server (ECDS); lint its file as well, or a dump of the running \
                 Envoy (/config_dump)",
                self.place()
            )
        })
    }

    /// Returns where the filter is, for a finding.
    pub(crate) fn place(&self) -> String {
        format!("listener `{}`", self.manager.listener)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A bootstrap reads listeners from files only if it says so.
    #[test]
    fn listeners_of_resource_files_belong_to_bootstraps_that_read_them() {
        let manager = json!({"name": "m", "typed_config": {"@type": "x.HttpConnectionManager"}});
        let listener = json!({
            "@type": "x.Listener", "name": "l", "filter_chains": [{"filters": [manager]}],
        });
        let of_files = json!({"resources": [listener]});
        let own = json!({"static_resources": {"listeners": [listener]}});
        let dynamic = json!({"dynamic_resources": {"lds_config": {}}});
        for (documents, wanted) in [
            (&[&own] as &[&Value], &[1_usize] as &[usize]),
            (&[&of_files], &[1]),
            (&[&own, &of_files], &[1, 1]),
            (&[&dynamic, &of_files], &[1]),
            (&[&dynamic, &of_files, &of_files], &[2]),
        ] {
            let read = |value: &&Value| Configuration::read(value).expect("of Envoy");
            let read: Vec<Configuration> = documents.iter().map(read).collect();
            let envoys = Envoy::all(&read.iter().collect::<Vec<_>>());
            let counts: Vec<usize> = envoys.iter().map(|envoy| envoy.managers.len()).collect();
            assert_eq!(counts, wanted, "{documents:?}");
        }
    }
}
