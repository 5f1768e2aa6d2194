//! Applies the edge policy inside Envoy 1.38 and later, as a dynamic module: a shared library that Envoy loads.
//!
//! The module decides nothing: [`fluxlit_stream`] collects the facts of a request, asks the policy and applies the edits, as in
//! the proxy-wasm filter, and `abi` calls Envoy for it. It runs inside Envoy's process without a sandbox, so all unsafe code
//! is in that one file, no input may cause a panic, and a panic that happens all the same ends one request only.

pub mod abi;

mod grpc;
mod probes;
mod redirects;
