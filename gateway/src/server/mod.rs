//! Accepts connections and speaks HTTP with clients: reads requests as [`proxy`](crate::proxy) wants them and writes
//! its responses.
//!
//! HTTP/1.1 (RFC 9112), HTTP/2 (RFC 9113) and WebSocket over HTTP/2 (RFC 8441). Upstreams are always sent HTTP/1.1, one
//! request for each HTTP/2 stream.
//!
//! May use `proxy`, `worker`, `settings`, `http`, `observe` and `net`.

mod http1;
mod http2;
mod http2_stream;
pub(crate) mod listener;
mod reject;
