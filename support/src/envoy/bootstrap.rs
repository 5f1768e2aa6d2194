//! Builds pieces of Envoy's configuration as JSON.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

/// An IP address and port.
pub fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

/// A Unix socket.
pub fn pipe(path: &Path) -> Value {
    json!({"pipe": {"path": path}})
}

/// The listener filter that takes the peer from the PROXY protocol.
pub fn proxy_protocol() -> Value {
    json!({
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"},
    })
}

/// An access log in a file; each line has this format.
pub fn access_log(path: &Path, format: &str) -> Value {
    json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {"text_format_source": {"inline_string": format}},
        },
    }])
}
