//! Reads the shipped bootstrap, and changes addresses, paths and settings in it.

use std::net::SocketAddr;
use std::path::Path;

use fluxlit_support::envoy::bootstrap::socket;
use fluxlit_support::envoy::{Envoy, EnvoyError};
use fluxlit_support::port::local;
use serde_json::{Value, json};

/// An Envoy bootstrap configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap(Value);

/// Returns the text of the shipped plugin configuration.
pub fn plugin_config() -> &'static str {
    include_str!("../plugin-config.json")
}

impl Bootstrap {
    /// Reads `bootstrap.yaml`.
    pub fn shipped() -> Self {
        Self(read_yaml(
            "bootstrap.yaml",
            include_str!("../bootstrap.yaml"),
        ))
    }

    /// Reads `sidecar.yaml`.
    pub fn sidecar() -> Self {
        Self(read_yaml("sidecar.yaml", include_str!("../sidecar.yaml")))
    }

    /// Reads another bootstrap of this package. `name`: its file, for errors.
    ///
    /// # Panics
    ///
    /// If it is not valid YAML.
    pub(crate) fn read(name: &str, text: &str) -> Self {
        Self(read_yaml(name, text))
    }

    /// Starts Envoy with this bootstrap, and waits until it is ready; see [`Envoy::start`].
    ///
    /// # Errors
    ///
    /// If Envoy cannot be started, or rejects the bootstrap.
    pub fn start(
        self,
        executable: &Path,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Envoy, EnvoyError> {
        let bootstrap = self.administered_on(local(0)).to_json();
        Envoy::start(executable, &bootstrap, folder, arguments)
    }

    /// Returns whether Envoy accepts this bootstrap, and its output; see [`Envoy::validate`].
    ///
    /// # Errors
    ///
    /// If Envoy cannot be started.
    pub fn validate(&self, executable: &Path, folder: &Path) -> Result<(bool, String), EnvoyError> {
        Envoy::validate(executable, &self.to_json(), folder)
    }

    /// Returns the bootstrap as JSON.
    pub fn to_json(&self) -> String {
        self.0.to_string()
    }

    /// Returns the structure of the bootstrap.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Listens on this address.
    #[must_use]
    pub fn listening_on(mut self, address: SocketAddr) -> Self {
        *self.at("/static_resources/listeners/0/address") = socket(address);
        self
    }

    /// Serves the admin interface on this address.
    #[must_use]
    pub fn administered_on(mut self, address: SocketAddr) -> Self {
        *self.at("/admin/address") = socket(address);
        self
    }

    /// Sends requests to this address.
    #[must_use]
    pub fn forwarding_to(mut self, address: SocketAddr) -> Self {
        *self.at("/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address") =
            socket(address);
        self
    }

    /// Loads the filter from this file: a wasm module, or a dynamic module (`.so`), which replaces the filter as `module.yaml`
    /// says.
    #[must_use]
    pub fn with_module(mut self, module: &Path) -> Self {
        if module
            .extension()
            .is_some_and(|extension| extension == "so")
        {
            let mut filter = read_yaml("module.yaml", include_str!("../module.yaml"));
            // The file itself, instead of a name that Envoy looks for.
            let source = &mut filter["typed_config"]["dynamic_module_config"];
            *source = json!({
                "module": {"local": {"filename": module}},
                "do_not_close": source["do_not_close"],
            });
            self.at(FILTER)["typed_config"] = filter["typed_config"].take();
        } else {
            let config = format!("{FILTER}/typed_config/config");
            *self.at(&format!("{config}/vm_config/code/local/filename")) = json!(module);
        }
        self
    }

    /// Configures the filter with this text.
    #[must_use]
    pub fn with_plugin_config(mut self, text: &str) -> Self {
        set_plugin_config(self.at(FILTER), text);
        self
    }

    /// Records the facts about connections as in `connection-facts.yaml`, at this event of the network filter.
    #[must_use]
    pub fn with_connection_facts(mut self, event: &str) -> Self {
        let mut filter = read_yaml(
            "connection-facts.yaml",
            include_str!("../connection-facts.yaml"),
        );
        if let Some(config) = filter["typed_config"].as_object_mut()
            && let Some(values) = config.remove("on_downstream_tls_handshake")
        {
            config.insert(event.to_owned(), values);
        }
        *self.at("/static_resources/listeners/0/filter_chains/0/filters/0") = filter;
        self
    }

    /// Terminates TLS as in `tls.yaml`, with this certificate and key.
    #[must_use]
    pub fn with_tls(mut self, certificate: &Path, key: &Path) -> Self {
        let mut tls = read_yaml("tls.yaml", include_str!("../tls.yaml"));
        let files = "/transport_socket/typed_config/common_tls_context/tls_certificates/0";
        for (key, file) in [("certificate_chain", certificate), ("private_key", key)] {
            if let Some(filename) = tls.pointer_mut(&format!("{files}/{key}/filename")) {
                *filename = json!(file);
            }
        }
        self.at("/static_resources/listeners/0/filter_chains/0")["transport_socket"] =
            tls["transport_socket"].take();
        self.at(CONNECTION_MANAGER)["local_reply_config"] = tls["local_reply_config"].take();
        self
    }

    /// Takes certificate, key and authority from this folder, by the names in the file.
    #[must_use]
    pub fn with_certificates_in(self, folder: &Path) -> Self {
        let names = ["certificate.pem", "key.pem", "authority.pem"];
        names.into_iter().fold(self, |bootstrap, name| {
            bootstrap.with_value(&json!(name), &json!(folder.join(name)))
        })
    }

    /// Publishes the apps of `several-apps.yaml`, whose gateways listen on these addresses.
    #[must_use]
    pub fn with_several_apps(mut self, gateways: [SocketAddr; 2]) -> Self {
        let mut apps = read_yaml("several-apps.yaml", include_str!("../several-apps.yaml"));
        let text = apps["configuration"]["value"].take();
        let hosts = format!("{CONNECTION_MANAGER}/route_config/virtual_hosts");
        *self.at(&hosts) = apps["virtual_hosts"].take();
        *self.at("/static_resources/clusters") = apps["clusters"].take();
        for (port, gateway) in (8000..).zip(gateways) {
            self = self.with_address(("127.0.0.1", port), gateway);
        }
        self.with_plugin_config(text.as_str().expect("a StringValue"))
    }

    /// Writes no access log. For measurements.
    #[must_use]
    pub fn without_access_log(mut self) -> Self {
        if let Some(manager) = self.at(CONNECTION_MANAGER).as_object_mut() {
            manager.remove("access_log");
        }
        self
    }

    /// Limits connections, and the memory that Envoy allocates.
    #[must_use]
    pub fn with_limits(mut self, connections: u64, heap_bytes: u64) -> Self {
        let monitors = "/overload_manager/resource_monitors";
        for (place, limit, value) in [
            (0, "max_active_downstream_connections", connections),
            (1, "max_heap_size_bytes", heap_bytes),
        ] {
            *self.at(&format!("{monitors}/{place}/typed_config/{limit}")) = json!(value);
        }
        self
    }

    /// Sends spans to a collector on this address as in `tracing.yaml`.
    #[must_use]
    pub fn with_tracing(mut self, collector: SocketAddr) -> Self {
        let mut tracing = read_yaml("tracing.yaml", include_str!("../tracing.yaml"));
        self.at(CONNECTION_MANAGER)["tracing"] = tracing["tracing"].take();
        let mut cluster = tracing["cluster"].take();
        let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
        if let Some(address) = cluster.pointer_mut(address) {
            *address = socket(collector);
        }
        self.with_cluster(cluster)
    }

    /// Replaces the listeners.
    #[must_use]
    pub fn with_listeners(mut self, listeners: Vec<Value>) -> Self {
        *self.at("/static_resources/listeners") = Value::Array(listeners);
        self
    }

    /// Forwards trailers to the upstream over HTTP/1; Envoy drops them by default.
    #[must_use]
    pub fn with_upstream_trailers(mut self) -> Self {
        self.at("/static_resources/clusters/0")["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
            },
        });
        self
    }

    /// Sets a key of the connection manager.
    #[must_use]
    pub fn with_connection_manager(mut self, key: &str, value: Value) -> Self {
        self.at(CONNECTION_MANAGER)[key] = value;
        self
    }

    /// Adds a cluster.
    #[must_use]
    pub fn with_cluster(mut self, cluster: Value) -> Self {
        if let Value::Array(clusters) = self.at("/static_resources/clusters") {
            clusters.push(cluster);
        }
        self
    }

    /// Changes the connection manager.
    #[must_use]
    pub fn with_changed_connection_manager(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(self.at(CONNECTION_MANAGER));
        self
    }

    /// Forwards requests that the filter has not processed as well. For measurements of other filters, and for tests that
    /// show what would happen.
    #[must_use]
    pub fn without_guard(mut self) -> Self {
        let routes = format!("{CONNECTION_MANAGER}/route_config/virtual_hosts/0/routes");
        if let Value::Array(routes) = self.at(&routes) {
            routes.retain(|route| route.get("direct_response").is_none());
            for route in routes {
                if let Some(conditions) = route["match"].as_object_mut() {
                    conditions.remove("filter_state");
                }
            }
        }
        self
    }

    /// Sets a key in the action of the route to the gateway.
    #[must_use]
    pub fn with_route_action(mut self, key: &str, value: Value) -> Self {
        let action = format!("{CONNECTION_MANAGER}/route_config/virtual_hosts/0/routes/0/route");
        self.at(&action)[key] = value;
        self
    }

    /// Adds an HTTP filter after ours.
    #[must_use]
    pub fn with_next_filter(mut self, filter: Value) -> Self {
        if let Value::Array(filters) = self.at(&format!("{CONNECTION_MANAGER}/http_filters")) {
            filters.insert(1, filter);
        }
        self
    }

    /// Accepts client certificates that this authority has signed.
    #[must_use]
    pub fn with_client_authority(mut self, authority: &Path) -> Self {
        let context = "/static_resources/listeners/0/filter_chains/0/transport_socket/typed_config/common_tls_context";
        self.at(context)["validation_context"] = json!({"trusted_ca": {"filename": authority}});
        self
    }

    /// Replaces a text in every string, such as a path or a host name.
    #[must_use]
    pub(crate) fn with_text(mut self, old: &str, new: &str) -> Self {
        change_each(&mut self.0, &mut |value| {
            if let Value::String(text) = value {
                *text = text.replace(old, new);
            }
            false
        });
        self
    }

    /// Replaces an address and port wherever something listens on it or connects to it.
    #[must_use]
    pub(crate) fn with_address(self, old: (&str, u16), new: SocketAddr) -> Self {
        let old = json!({"socket_address": {"address": old.0, "port_value": old.1}});
        self.with_value(&old, &socket(new))
    }

    /// Replaces a value wherever it is.
    #[must_use]
    pub(crate) fn with_value(mut self, old: &Value, new: &Value) -> Self {
        change_each(&mut self.0, &mut |value| {
            let is_found = value == old;
            if is_found {
                value.clone_from(new);
            }
            is_found
        });
        self
    }

    /// Changes every message of this type.
    pub(crate) fn change_every(&mut self, kind: &str, change: &dyn Fn(&mut Value)) {
        change_each(&mut self.0, &mut |value| {
            let is_found = value["@type"] == kind;
            if is_found {
                change(value);
            }
            is_found
        });
    }

    /// Adds listeners and clusters.
    #[must_use]
    pub(crate) fn with(mut self, listeners: Vec<Value>, clusters: Vec<Value>) -> Self {
        for (name, added) in [("listeners", listeners), ("clusters", clusters)] {
            if let Value::Array(all) = self.at(&format!("/static_resources/{name}")) {
                all.extend(added);
            }
        }
        self
    }

    fn at(&mut self, pointer: &str) -> &mut Value {
        self.0
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("the bootstrap has nothing at {pointer}"))
    }
}

/// Configures a filter of `http_filters`, a wasm module or a dynamic module, with this text.
///
/// # Panics
///
/// If it is another filter.
pub fn set_plugin_config(filter: &mut Value, text: &str) {
    let places = [
        "/typed_config/config/configuration/value",
        "/typed_config/filter_config/value",
    ];
    let place = places.iter().find(|place| filter.pointer(place).is_some());
    match place.and_then(|place| filter.pointer_mut(place)) {
        Some(value) => *value = json!(text),
        None => panic!("not a filter of this project: {filter}"),
    }
}

/// Calls `change` for a value and, unless it returns true, for each value in it.
fn change_each(value: &mut Value, change: &mut dyn FnMut(&mut Value) -> bool) {
    if change(value) {
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| change_each(item, change)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| change_each(field, change)),
        _ => {}
    }
}

/// Reads one of the YAML files of this package.
fn read_yaml(name: &str, text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

const CONNECTION_MANAGER: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config";

/// This project's filter.
const FILTER: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config/http_filters/0";
