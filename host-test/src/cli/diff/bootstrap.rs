//! With which configuration does Envoy run the cases?
//!
//! One listener for each case, so that each has a VM of its own; all of them forward to one upstream. The PROXY protocol
//! plays the peer. Nothing is normalised, so that the filter sees what the case says; `use_remote_address` is off, so
//! that no header is added or removed, and the peer is looked for in a field that nobody sends, so that no header
//! replaces it.

use std::net::SocketAddr;
use std::path::Path;

use host_test::case_file::{Case, CaseFile, Plugin, Policy};
use serde_json::{Value, json};

/// What a listener is for.
pub(super) struct Listener<'a> {
    pub(super) address: SocketAddr,
    pub(super) file: &'a CaseFile,
    pub(super) case: &'a Case,
}

pub(super) fn bootstrap(module: &Path, upstream: SocketAddr, listeners: &[Listener<'_>]) -> Value {
    let listeners: Vec<Value> = listeners
        .iter()
        .enumerate()
        .map(|(number, each)| listener(module, number, each))
        .collect();
    json!({
        "static_resources": {
            "listeners": listeners,
            "clusters": [{
                "name": "upstream",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "upstream",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(upstream)}}]}],
                },
            }],
        },
    })
}

fn listener(module: &Path, number: usize, listener: &Listener<'_>) -> Value {
    let Listener {
        address,
        file,
        case,
    } = listener;
    let setup = case
        .plugin
        .clone()
        .or(file.plugin.clone())
        .unwrap_or_default();
    let config = String::from_utf8_lossy(&file.config_of(case)).into_owned();
    let mut filters = Vec::new();
    if let Some(key) = serde_json::from_str::<Value>(&config)
        .ok()
        .and_then(|config| {
            config
                .get("peer_filter_state_key")?
                .as_str()
                .map(str::to_owned)
        })
    {
        filters.push(record_peer(&key));
    }
    filters.push(json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "case",
            "codec_type": "HTTP1",
            "generate_request_id": false,
            "use_remote_address": false,
            "original_ip_detection_extensions": [{
                "name": "envoy.http.original_ip_detection.custom_header",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig",
                    "header_name": "x-sent-by-nobody",
                },
            }],
            "http_protocol_options": {"accept_http_10": true},
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {
                "virtual_hosts": [{
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
                }],
            },
            "http_filters": [
                wasm(module, number, &setup, &config),
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                        "suppress_envoy_headers": true,
                    },
                },
            ],
        },
    }));
    json!({
        "name": format!("case-{number}"),
        "address": socket(*address),
        "listener_filters": [{
            "name": "envoy.filters.listener.proxy_protocol",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"},
        }],
        "filter_chains": [{"filters": filters}],
    })
}

fn record_peer(key: &str) -> Value {
    json!({
        "name": "envoy.filters.network.set_filter_state",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
            "on_new_connection": [{
                "object_key": key,
                "factory_key": "envoy.string",
                "format_string": {
                    "text_format_source": {"inline_string": "%DOWNSTREAM_REMOTE_ADDRESS%"},
                },
            }],
        },
    })
}

fn wasm(module: &Path, number: usize, setup: &Plugin, config: &str) -> Value {
    let policy = match setup.failure_policy {
        None | Some(Policy::Closed) => "FAIL_CLOSED",
        Some(Policy::Open) => "FAIL_OPEN",
        Some(Policy::Reload) => "FAIL_RELOAD",
    };
    // An id of its own for each case, unless the case names one: plugins that are alike would share a VM.
    let vm_id = if setup.vm_id.is_empty() {
        format!("case-{number}")
    } else {
        setup.vm_id.clone()
    };
    json!({
        "name": "envoy.filters.http.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": setup.name,
                "root_id": setup.root_id,
                "failure_policy": policy,
                "allow_on_headers_stop_iteration": setup.allow_on_headers_stop_iteration,
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
