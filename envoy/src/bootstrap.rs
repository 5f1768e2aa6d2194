//! The shipped bootstrap, with other addresses.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

/// An Envoy bootstrap configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap(Value);

/// The plugin configuration that is shipped, as text.
pub fn plugin_config() -> &'static str {
    include_str!("../plugin-config.json")
}

impl Bootstrap {
    /// `bootstrap.yaml`, as it stands.
    pub fn shipped() -> Self {
        Self(read_yaml(
            "bootstrap.yaml",
            include_str!("../bootstrap.yaml"),
        ))
    }

    /// The configuration, as Envoy reads it from a file whose name ends in `.json`.
    pub fn to_json(&self) -> String {
        self.0.to_string()
    }

    /// The configuration's structure.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Listens on this address.
    #[must_use]
    pub fn listening_on(mut self, address: SocketAddr) -> Self {
        *self.at("/static_resources/listeners/0/address") = socket_address(address);
        self
    }

    /// Offers the admin interface on this address.
    #[must_use]
    pub fn administered_on(mut self, address: SocketAddr) -> Self {
        *self.at("/admin/address") = socket_address(address);
        self
    }

    /// Sends requests to this address.
    #[must_use]
    pub fn forwarding_to(mut self, address: SocketAddr) -> Self {
        *self.at("/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address") =
            socket_address(address);
        self
    }

    /// Loads the filter from this file.
    #[must_use]
    pub fn with_module(mut self, module: &Path) -> Self {
        let config = format!("{CONNECTION_MANAGER}/http_filters/0/typed_config/config");
        *self.at(&format!("{config}/vm_config/code/local/filename")) = json!(module);
        self
    }

    /// Configures the filter with this text.
    #[must_use]
    pub fn with_plugin_config(mut self, text: &str) -> Self {
        let config = format!("{CONNECTION_MANAGER}/http_filters/0/typed_config/config");
        *self.at(&format!("{config}/configuration/value")) = json!(text);
        self
    }

    /// Terminates TLS as `tls.yaml` says, with this certificate and key.
    #[must_use]
    pub fn with_tls(mut self, certificate: &Path, key: &Path) -> Self {
        let mut tls = read_yaml("tls.yaml", include_str!("../tls.yaml"));
        let files = "/transport_socket/typed_config/common_tls_context/tls_certificates/0";
        for (place, file) in [("certificate_chain", certificate), ("private_key", key)] {
            if let Some(filename) = tls.pointer_mut(&format!("{files}/{place}/filename")) {
                *filename = json!(file);
            }
        }
        self.at("/static_resources/listeners/0/filter_chains/0")["transport_socket"] =
            tls["transport_socket"].take();
        self.at(CONNECTION_MANAGER)["local_reply_config"] = tls["local_reply_config"].take();
        self
    }

    /// Has these listeners instead of its own.
    #[must_use]
    pub fn with_listeners(mut self, listeners: Vec<Value>) -> Self {
        *self.at("/static_resources/listeners") = Value::Array(listeners);
        self
    }

    /// Passes trailers on to the upstream over HTTP/1, which Envoy drops otherwise.
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

    /// Sets a key of the only route's action.
    #[must_use]
    pub fn with_route_action(mut self, key: &str, value: Value) -> Self {
        let action = format!("{CONNECTION_MANAGER}/route_config/virtual_hosts/0/routes/0/route");
        self.at(&action)[key] = value;
        self
    }

    /// Puts an HTTP filter behind ours.
    #[must_use]
    pub fn with_next_filter(mut self, filter: Value) -> Self {
        if let Value::Array(filters) = self.at(&format!("{CONNECTION_MANAGER}/http_filters")) {
            filters.insert(1, filter);
        }
        self
    }

    /// Asks clients for a certificate that this authority has signed.
    #[must_use]
    pub fn with_client_authority(mut self, authority: &Path) -> Self {
        let context = "/static_resources/listeners/0/filter_chains/0/transport_socket/typed_config/common_tls_context";
        self.at(context)["validation_context"] = json!({"trusted_ca": {"filename": authority}});
        self
    }

    fn at(&mut self, pointer: &str) -> &mut Value {
        self.0
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("bootstrap.yaml has nothing at {pointer}"))
    }
}

/// Reads one of the YAML files that are part of this package.
fn read_yaml(name: &str, text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

const CONNECTION_MANAGER: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config";
