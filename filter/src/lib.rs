//! Carries the edge policy out inside Envoy and Istio.
//!
//! The filter decides nothing: it reads the facts through host calls, asks [`fluxlit_policy`], and applies the edits.
//! What is not here: any rule, and any host call that can panic. The SDK dispatches the callbacks; every call to the
//! host goes through `host`, where a status is a value.

#![expect(
    missing_docs,
    reason = "the SDK's macro writes the entry point, without a comment"
)]

mod counters;
mod host;
mod plugin;
mod stream;
mod warnings;

use proxy_wasm::traits::RootContext;

use crate::plugin::Root;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root::default()) });
}}
