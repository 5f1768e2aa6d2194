//! Leaves the callbacks that do nothing out of the module's exports.
//!
//! The SDK exports every callback of the ABI, and Envoy enters the module for each one that is exported: for every chunk of
//! a body, every WebSocket frame, and twice at the end of a stream. The linker option `--wrap=NAME` binds NAME to
//! `__wrap_NAME`, which does not exist here, so that there is nothing to export under NAME.

fn main() {
    for callback in UNUSED {
        println!("cargo::rustc-cdylib-link-arg=--wrap={callback}");
    }
}

/// What `proxy-wasm` 0.2.5 exports and this filter does not implement.
const UNUSED: [&str; 18] = [
    "proxy_on_done",
    "proxy_on_downstream_connection_close",
    "proxy_on_downstream_data",
    "proxy_on_foreign_function",
    "proxy_on_grpc_close",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_new_connection",
    "proxy_on_queue_ready",
    "proxy_on_request_body",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_upstream_connection_close",
    "proxy_on_upstream_data",
    "proxy_on_vm_start",
];
