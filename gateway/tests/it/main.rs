//! The gateway as a process, between a raw client and a raw upstream: what is on the wire is what is judged.

mod api;
mod client;
mod regressions;
mod drain;
mod framing;
mod health;
mod http2;
mod limits;
mod operators;
mod process;
mod proxy;
mod refused;
mod support;
mod tls;
mod tunnel;
