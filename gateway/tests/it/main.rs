//! Tests the gateway process on the wire, between a raw client and a raw upstream.

mod api;
mod client;
mod client_certificates;
mod command_line;
mod container_probe;
mod doctor_output;
mod drain;
mod framing;
mod health;
mod http2;
mod http2_client_certificates;
mod http2_rules;
mod limits;
mod operators;
mod probe;
mod process;
mod proxy;
mod refused;
mod regressions;
mod reload;
mod support;
mod termination;
mod tls;
mod tunnel;
mod tutorials;
mod upstream_request;
