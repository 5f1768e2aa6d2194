//! Carries the edge policy out inside Envoy and Istio.
//!
//! The filter decides nothing: it reads the facts through host calls, asks [`fluxlit_policy`], and applies the edits.
//! What is not here: any rule, and anything that can panic. Callbacks come in through `callbacks`, calls go out through
//! `host`, where a status is a value.

mod callbacks;
mod counters;
mod host;
mod memory;
mod plugin;
mod stream;
mod warnings;
