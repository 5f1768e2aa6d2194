//! With which configuration does Envoy run the cases?
//!
//! Listeners for each case, one for each kind of request that it sends, so that each case has a VM of its own. The PROXY
//! protocol plays the peer. Nothing is normalised, so that the filter sees what the case says; `use_remote_address` is
//! off, so that no header is added or removed, and the peer is looked for in a field that nobody sends, so that no
//! header replaces it. Envoy chooses the ports.
//!
//! Before the filters stands one that leaves a mark in the dynamic metadata. The access log tells whether it is there:
//! if not, Envoy refused the request before any filter saw it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use host_test::case_file::{FailurePolicy, PluginSetup};
use serde_json::{Map, Value, json};

use super::client::Certificates;
use super::logs::Writer;
use super::plan::Plan;
use super::surroundings::{PeerKind, Surroundings};
use super::upstream::{Protocol, Upstream};

/// What Envoy is configured with.
pub(super) struct Site<'a> {
    /// The module that is tested.
    pub(super) module: &'a Path,
    pub(super) access_log: &'a Path,
    pub(super) clusters: Vec<(String, &'a Upstream)>,
    pub(super) listeners: &'a [Listener<'a>],
}

/// What a listener is for.
pub(super) struct Listener<'a> {
    pub(super) name: String,
    pub(super) plan: &'a Plan<'a>,
    pub(super) surroundings: &'a Surroundings,
    /// What the upstream behind it speaks.
    pub(super) upstream: Protocol,
    pub(super) certificates: Option<Certificates>,
    pub(super) socket: Option<PathBuf>,
    /// The id of the VMs that the case does not name.
    pub(super) vm_id: String,
    /// The module that puts the shared data there.
    pub(super) shared_data: Option<PathBuf>,
}

impl Listener<'_> {
    /// The names by which Envoy knows a plugin of this listener.
    pub(super) fn writer<'a>(&'a self, plugin: &'a PluginSetup) -> Writer<'a> {
        Writer {
            name: &plugin.name,
            root_id: &plugin.root_id,
            vm_id: self.vm_id_of(plugin),
        }
    }

    fn vm_id_of<'a>(&'a self, plugin: &'a PluginSetup) -> &'a str {
        if plugin.vm_id.is_empty() {
            &self.vm_id
        } else {
            &plugin.vm_id
        }
    }
}

pub(super) fn bootstrap(site: &Site<'_>) -> Value {
    let listeners: Vec<Value> = site
        .listeners
        .iter()
        .map(|each| listener(site, each))
        .collect();
    let clusters: Vec<Value> = site
        .clusters
        .iter()
        .map(|(name, upstream)| cluster(name, upstream))
        .collect();
    json!({
        "admin": {"address": socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// The name of the cluster for the upstream of cases. No service of a case is called like this.
pub(super) fn upstream_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "host-test/http1",
        Protocol::Http2 => "host-test/http2",
    }
}

fn cluster(name: &str, upstream: &Upstream) -> Value {
    let protocol = match upstream.protocol {
        Protocol::Http1 => json!({"http_protocol_options": {"enable_trailers": true}}),
        Protocol::Http2 => json!({"http2_protocol_options": {}}),
    };
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(upstream.address)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": protocol,
                "common_http_protocol_options": {"max_requests_per_connection": 1},
            },
        },
    })
}

fn listener(site: &Site<'_>, listener: &Listener<'_>) -> Value {
    let surroundings = listener.surroundings;
    let address = match &listener.socket {
        Some(path) => json!({"pipe": {"path": path}}),
        None => socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
    };
    let mut listener_filters = Vec::new();
    if surroundings.peer != PeerKind::Unix {
        listener_filters.push(json!({
            "name": "envoy.filters.listener.proxy_protocol",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"},
        }));
    }
    // Envoy knows the name that the client asks for only through this.
    if surroundings.server_name.is_some() {
        listener_filters.push(json!({
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
        }));
    }
    let mut chain = json!({"filters": network_filters(site, listener)});
    if let Some(certificates) = &listener.certificates {
        chain["transport_socket"] = tls(certificates);
    }
    json!({
        "name": listener.name,
        "address": address,
        "metadata": {"filter_metadata": surroundings.listener_metadata},
        "listener_filters": listener_filters,
        "filter_chains": [chain],
    })
}

fn tls(certificates: &Certificates) -> Value {
    let Certificates { server, client } = certificates;
    let mut common = json!({
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificates": [{
            "certificate_chain": {"inline_string": server.pem},
            "private_key": {"inline_string": server.key_pem},
        }],
    });
    if let Some(client) = client {
        common["validation_context"] = json!({"trusted_ca": {"inline_string": client.pem}});
    }
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": client.is_some(),
            "common_tls_context": common,
        },
    })
}

fn network_filters(site: &Site<'_>, listener: &Listener<'_>) -> Vec<Value> {
    let Listener {
        plan, surroundings, ..
    } = listener;
    let mut filters = Vec::new();
    if surroundings.peer != PeerKind::Unknown
        && let Some(key) = peer_key(plan)
    {
        filters.push(filter_state(&key, "%DOWNSTREAM_REMOTE_ADDRESS%"));
    }
    for (key, value) in &surroundings.filter_state {
        filters.push(filter_state(key, &value.replace('%', "%%")));
    }
    let access_log = json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": site.access_log,
            "log_format": {"text_format_source": {
                "inline_string": access_log_line(listener),
            }},
        },
    }]);
    filters.push(json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "case",
            "codec_type": "AUTO",
            "generate_request_id": false,
            "use_remote_address": false,
            "original_ip_detection_extensions": [{
                "name": "envoy.http.original_ip_detection.custom_header",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig",
                    "header_name": "x-sent-by-nobody",
                },
            }],
            "http_protocol_options": {"accept_http_10": true, "enable_trailers": true},
            "stream_idle_timeout": format!("{}s", plan.patience.as_secs_f64()),
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "access_log": access_log,
            "route_config": {
                "virtual_hosts": [{
                    "name": surroundings.virtual_host_name.as_deref().unwrap_or("all"),
                    "domains": ["*"],
                    "routes": [{
                        "name": surroundings.route_name.as_deref().unwrap_or_default(),
                        "match": {"prefix": "/"},
                        "metadata": {"filter_metadata": surroundings.route_metadata},
                        "route": {"cluster": upstream_name(listener.upstream)},
                    }],
                }],
            },
            "http_filters": http_filters(site, listener),
        },
    }));
    filters
}

fn http_filters(site: &Site<'_>, listener: &Listener<'_>) -> Vec<Value> {
    let Listener {
        plan, surroundings, ..
    } = listener;
    let mut mark = Map::new();
    mark.insert(MARK.to_owned(), json!({MARK: REACHED}));
    let mut filters = vec![metadata("mark", &mark)];
    if !surroundings.metadata.is_empty() {
        filters.push(metadata("metadata", &surroundings.metadata));
    }
    let setups = plan.plugins();
    let wasm = |name: &str, module: &Path, setup: &PluginSetup, config: &str| {
        wasm(name, module, setup, listener.vm_id_of(setup), config)
    };
    if let Some(module) = &listener.shared_data {
        let vm_id = setups
            .first()
            .map(|setup| setup.vm_id.clone())
            .unwrap_or_default();
        let setup = PluginSetup {
            vm_id,
            ..PluginSetup::default()
        };
        filters.push(wasm("shared-data", module, &setup, ""));
    }
    let folder = plan.path.parent().unwrap_or(Path::new(""));
    let chained = plan.file.chain.iter().map(|chained| {
        let module = chained.module.as_ref().map(|module| folder.join(module));
        let config = chained
            .config
            .as_ref()
            .map(|config| config.to_bytes())
            .unwrap_or_default();
        (module, config)
    });
    let tested = (None, plan.file.config_of(plan.case));
    for (number, ((module, config), setup)) in std::iter::once(tested)
        .chain(chained)
        .zip(&setups)
        .enumerate()
    {
        let module = module.as_deref().unwrap_or(site.module);
        let config = String::from_utf8_lossy(&config);
        filters.push(wasm(&format!("wasm-{number}"), module, setup, &config));
    }
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": true,
        },
    }));
    filters
}

/// What the access log says of an exchange: the listener, the mark, Envoy's word for its end, and the values of the filter
/// state that are compared.
fn access_log_line(listener: &Listener<'_>) -> String {
    let mut line = format!(
        "{} %DYNAMIC_METADATA({MARK}:{MARK})% %RESPONSE_CODE_DETAILS%",
        listener.name
    );
    for key in listener.plan.filter_state_keys() {
        line.push_str(&format!("{BETWEEN}%FILTER_STATE({key}:PLAIN)%"));
    }
    line.push('\n');
    line
}

/// The one configuration key that the host knows: it names where the listener records its peer.
fn peer_key(plan: &Plan<'_>) -> Option<String> {
    let config: Value = serde_json::from_slice(&plan.file.config_of(plan.case)).ok()?;
    Some(config.get("peer_filter_state_key")?.as_str()?.to_owned())
}

fn filter_state(key: &str, format: &str) -> Value {
    json!({
        "name": "envoy.filters.network.set_filter_state",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
            "on_new_connection": [{
                "object_key": key,
                "factory_key": "envoy.string",
                "format_string": {"text_format_source": {"inline_string": format}},
            }],
        },
    })
}

fn metadata(name: &str, namespaces: &Map<String, Value>) -> Value {
    let metadata: Vec<Value> = namespaces
        .iter()
        .map(|(namespace, value)| json!({"metadata_namespace": namespace, "value": value}))
        .collect();
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
            "metadata": metadata,
        },
    })
}

fn wasm(name: &str, module: &Path, setup: &PluginSetup, vm_id: &str, config: &str) -> Value {
    let policy = match setup.failure_policy {
        None | Some(FailurePolicy::Closed) => "FAIL_CLOSED",
        Some(FailurePolicy::Open) => "FAIL_OPEN",
        Some(FailurePolicy::Reload) => "FAIL_RELOAD",
    };
    let allowed: Map<String, Value> = setup
        .allowed_capabilities
        .iter()
        .map(|name| (name.clone(), json!({})))
        .collect();
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": setup.name,
                "root_id": setup.root_id,
                "failure_policy": policy,
                "allow_on_headers_stop_iteration": setup.allow_on_headers_stop_iteration,
                "capability_restriction_config": {"allowed_capabilities": allowed},
                "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": config},
                "vm_config": {
                    "vm_id": vm_id,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                    "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": setup.vm_config},
                    "environment_variables": {"key_values": setup.environment},
                },
            },
        },
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// Stands before each value of the filter state in a line of the access log.
pub(super) const BETWEEN: char = '\u{1f}';

/// Namespace and key of the mark.
const MARK: &str = "host-test";

/// The value of the mark, and what a line of the access log has behind the listener's name if it is there.
pub(super) const REACHED: &str = "reached";
