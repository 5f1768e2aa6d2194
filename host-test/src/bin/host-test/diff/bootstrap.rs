//! Builds the bootstrap with which Envoy runs the cases.
//!
//! Each case has its own listeners, one for each kind of request that it sends, and so its own VM. The PROXY protocol sets
//! the peer's address. Nothing is normalized, so that the filter receives the request of the case; `use_remote_address` is
//! off, so that no header is added or removed; and Envoy looks for the client's address in a field that no request has, so
//! that no header replaces the peer. Envoy chooses the ports.
//!
//! A message in HTTP/1 may need a field that the case does not have, because its end could not be found without it. Envoy
//! removes the field before the filters see it, so that they see the message of the case.
//!
//! A filter before the others leaves a mark in the dynamic metadata, which the access log shows. If the mark is missing,
//! Envoy rejected the request before it reached a filter.

use std::path::{Path, PathBuf};

use fluxlit_support::certificate::Certificate;
use fluxlit_support::envoy::bootstrap::{access_log, pipe, proxy_protocol, socket};
use fluxlit_support::envoy::log::PluginNames;
use fluxlit_support::port::local;
use fluxlit_support::upstream::{Protocol, Upstream};
use host_test::case_file::{FailurePolicy, PluginSetup};
use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::setup::{EnvoySetup, PeerKind};

/// The certificates of a listener and its client.
pub(super) struct Certificates {
    pub(super) server: Certificate,
    pub(super) client: Option<Certificate>,
}

/// The variable parts of a bootstrap.
pub(super) struct BootstrapParts<'a> {
    /// The module under test.
    pub(super) module: &'a Path,
    pub(super) access_log: &'a Path,
    pub(super) clusters: Vec<Cluster<'a>>,
    pub(super) listeners: &'a [Listener<'a>],
}

/// An upstream as Envoy knows it.
pub(super) struct Cluster<'a> {
    pub(super) name: String,
    pub(super) upstream: &'a Upstream,
    /// Fields that Envoy removes from responses before the filters.
    pub(super) removed_fields: Vec<&'static str>,
}

/// The upstream of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UpstreamKind {
    pub(super) protocol: Protocol,
    /// A field that its responses have on the wire but not in the case.
    pub(super) added_field: Option<&'static str>,
}

/// A listener, and the exchanges that it serves.
pub(super) struct Listener<'a> {
    pub(super) name: String,
    pub(super) plan: &'a Plan<'a>,
    pub(super) setup: &'a EnvoySetup,
    pub(super) upstream: UpstreamKind,
    pub(super) certificates: Option<Certificates>,
    pub(super) socket: Option<PathBuf>,
    /// The id of VMs for which the case has none.
    pub(super) vm_id: String,
    /// The module that writes the shared data.
    pub(super) shared_data: Option<PathBuf>,
}

impl Listener<'_> {
    /// Returns true if exchanges of a plan with this setup and this upstream use this listener.
    pub(super) fn serves(
        &self,
        plan: &Plan<'_>,
        setup: &EnvoySetup,
        upstream: UpstreamKind,
    ) -> bool {
        std::ptr::eq(self.plan.case, plan.case) && self.setup == setup && self.upstream == upstream
    }

    /// Returns the names of a plugin of this listener in Envoy's log.
    pub(super) fn names_of<'a>(&'a self, plugin: &'a PluginSetup) -> PluginNames<'a> {
        PluginNames {
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

/// Builds the whole bootstrap.
pub(super) fn bootstrap(parts: &BootstrapParts<'_>) -> Value {
    let listeners: Vec<Value> = parts
        .listeners
        .iter()
        .map(|each| listener(parts, each))
        .collect();
    let clusters: Vec<Value> = parts.clusters.iter().map(cluster).collect();
    json!({
        "admin": {"address": socket(local(0))},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

impl UpstreamKind {
    /// Every kind.
    pub(super) const ALL: [Self; 4] = [
        Self::new(Protocol::Http1, None),
        Self::new(Protocol::Http1, Some("content-length")),
        Self::new(Protocol::Http1, Some("transfer-encoding")),
        Self::new(Protocol::Http2, None),
    ];

    pub(super) const fn new(protocol: Protocol, added_field: Option<&'static str>) -> Self {
        Self {
            protocol,
            added_field,
        }
    }

    /// Returns the name of the cluster. No service of a case has such a name.
    pub(super) fn cluster_name(self) -> String {
        let protocol = match self.protocol {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
        };
        match self.added_field {
            None => format!("host-test/{protocol}"),
            Some(field) => format!("host-test/{protocol}/without/{field}"),
        }
    }
}

fn cluster(cluster: &Cluster<'_>) -> Value {
    let Cluster {
        name,
        upstream,
        removed_fields,
    } = cluster;
    let protocol = match upstream.options.protocol {
        Protocol::Http1 => json!({"http_protocol_options": {"enable_trailers": true}}),
        Protocol::Http2 => json!({"http2_protocol_options": {}}),
    };
    let mut filters = Vec::new();
    if !removed_fields.is_empty() {
        filters.push(removal("response_mutations", removed_fields));
        filters.push(json!({
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"},
        }));
    }
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
                "http_filters": filters,
            },
        },
    })
}

/// Builds a filter that removes fields which the harness had to add to a message.
fn removal(mutations: &str, fields: &[&str]) -> Value {
    let removed: Vec<Value> = fields.iter().map(|name| json!({"remove": name})).collect();
    json!({
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {mutations: removed},
        },
    })
}

fn listener(parts: &BootstrapParts<'_>, listener: &Listener<'_>) -> Value {
    let setup = listener.setup;
    let address = match &listener.socket {
        Some(path) => pipe(path),
        None => socket(local(0)),
    };
    let mut listener_filters = Vec::new();
    if setup.peer != PeerKind::Unix {
        listener_filters.push(proxy_protocol());
    }
    // Without it, Envoy does not know the server name that the client requests.
    if setup.server_name.is_some() {
        listener_filters.push(json!({
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
        }));
    }
    let mut chain = json!({"filters": network_filters(parts, listener)});
    if let Some(certificates) = &listener.certificates {
        chain["transport_socket"] = tls(certificates);
    }
    let limit = listener
        .plan
        .plugins()
        .first()
        .and_then(|plugin| plugin.buffer_limit);
    json!({
        "name": listener.name,
        "address": address,
        "per_connection_buffer_limit_bytes": limit.unwrap_or(DEFAULT_BUFFER_LIMIT),
        "metadata": {"filter_metadata": setup.listener_metadata},
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

fn network_filters(parts: &BootstrapParts<'_>, listener: &Listener<'_>) -> Vec<Value> {
    let Listener { plan, setup, .. } = listener;
    let mut filters = Vec::new();
    if setup.peer != PeerKind::Unknown
        && let Some(key) = peer_key(plan)
    {
        filters.push(filter_state(&key, "%DOWNSTREAM_REMOTE_ADDRESS%"));
    }
    for (key, value) in &setup.filter_state {
        filters.push(filter_state(key, &value.replace('%', "%%")));
    }
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
                    "header_name": "x-never-sent",
                },
            }],
            "http_protocol_options": {"accept_http_10": true, "enable_trailers": true},
            // Each exchange has its own connection. Its end shows that nothing follows, even if the length promises more.
            "common_http_protocol_options": {"max_requests_per_connection": 1},
            "stream_idle_timeout": format!("{}s", plan.idle_timeout.as_secs_f64()),
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "access_log": access_log(parts.access_log, &access_log_format(listener)),
            "route_config": {
                "virtual_hosts": [{
                    "name": setup.virtual_host_name.as_deref().unwrap_or("all"),
                    "domains": ["*"],
                    "routes": [{
                        "name": setup.route_name.as_deref().unwrap_or_default(),
                        "match": {"prefix": "/"},
                        "metadata": {"filter_metadata": setup.route_metadata},
                        "route": {"cluster": listener.upstream.cluster_name()},
                    }],
                }],
            },
            "http_filters": http_filters(parts, listener),
        },
    }));
    filters
}

fn http_filters(parts: &BootstrapParts<'_>, listener: &Listener<'_>) -> Vec<Value> {
    let Listener { plan, setup, .. } = listener;
    let mut mark = Map::new();
    mark.insert(MARK.to_owned(), json!({MARK: REACHED}));
    let mut filters = vec![metadata("mark", &mark)];
    filters.extend(
        setup
            .added_field
            .map(|field| removal("request_mutations", &[field])),
    );
    if !setup.metadata.is_empty() {
        filters.push(metadata("metadata", &setup.metadata));
    }
    let plugins = plan.plugins();
    let wasm = |name: &str, module: &Path, plugin: &PluginSetup, config: &str| {
        wasm(name, module, plugin, listener.vm_id_of(plugin), config)
    };
    if let Some(module) = &listener.shared_data {
        let vm_id = plugins
            .first()
            .map(|plugin| plugin.vm_id.clone())
            .unwrap_or_default();
        let plugin = PluginSetup {
            vm_id,
            ..PluginSetup::default()
        };
        filters.push(wasm("shared-data", module, &plugin, ""));
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
    for (number, ((module, config), plugin)) in std::iter::once(tested)
        .chain(chained)
        .zip(&plugins)
        .enumerate()
    {
        let module = module.as_deref().unwrap_or(parts.module);
        let config = String::from_utf8_lossy(&config);
        filters.push(wasm(&format!("wasm-{number}"), module, plugin, &config));
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

/// The format of the access log: the listener, the mark, Envoy's response code details, and the values of the filter state
/// that are compared.
fn access_log_format(listener: &Listener<'_>) -> String {
    let mut line = format!(
        "{} %DYNAMIC_METADATA({MARK}:{MARK})% %RESPONSE_CODE_DETAILS%",
        listener.name
    );
    for key in listener.plan.filter_state_keys() {
        line.push_str(&format!("{SEPARATOR}%FILTER_STATE({key}:PLAIN)%"));
    }
    line.push('\n');
    line
}

/// Returns the key under which the listener records its peer. This is the only key of a plugin configuration that the host knows.
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

fn wasm(name: &str, module: &Path, plugin: &PluginSetup, vm_id: &str, config: &str) -> Value {
    let policy = match plugin.failure_policy {
        None | Some(FailurePolicy::Closed) => "FAIL_CLOSED",
        Some(FailurePolicy::Open) => "FAIL_OPEN",
        Some(FailurePolicy::Reload) => "FAIL_RELOAD",
    };
    let allowed: Map<String, Value> = plugin
        .allowed_capabilities
        .iter()
        .map(|name| (name.clone(), json!({})))
        .collect();
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": plugin.name,
                "root_id": plugin.root_id,
                "failure_policy": policy,
                "allow_on_headers_stop_iteration": plugin.allow_on_headers_stop_iteration,
                "capability_restriction_config": {"allowed_capabilities": allowed},
                "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": config},
                "vm_config": {
                    "vm_id": vm_id,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                    "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.vm_config},
                    "environment_variables": {"key_values": plugin.environment},
                },
            },
        },
    })
}

/// Precedes each value of the filter state in a line of the access log.
pub(super) const SEPARATOR: char = '\u{1f}';

/// Envoy's own default.
const DEFAULT_BUFFER_LIMIT: usize = 1024 * 1024;

/// Namespace and key of the mark.
const MARK: &str = "host-test";

/// The value of the mark, which follows the listener's name in a line of the access log.
pub(super) const REACHED: &str = "reached";
