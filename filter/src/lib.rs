//! Applies the edge policy inside Envoy and Istio.
//!
//! The filter decides nothing: [`fluxlit_stream`] collects the facts of a request, asks the policy and applies the edits,
//! and this package calls Envoy for it, through the proxy-wasm ABI. Contexts, dispatch, configuration, logs, counters and
//! ticks go through the `proxy-wasm` SDK. Header maps, properties and local responses go through `host`, which returns any
//! status as a value and headers as bytes: the SDK panics on an unexpected status and on a header that is not UTF-8, and a
//! panic ends the VM of the worker.

#![expect(
    missing_docs,
    reason = "the SDK's macro defines a public function without documentation; there are no others"
)]

mod host;
mod memory;
mod plugin;
mod probes;
mod stream;
mod wasm_host;

use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    // The host applies its own level, which operators can change at run time.
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| Box::new(plugin::Root::default()));
}}
