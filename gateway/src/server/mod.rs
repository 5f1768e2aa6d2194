//! HTTP/2 from the client: RFC 9113, and WebSocket inside it, RFC 8441.
//!
//! Envoy and browsers speak it; the upstream is spoken to in HTTP/1.1 all the same, one stream one request.

mod connection;
mod stream;

pub(crate) use connection::serve;
