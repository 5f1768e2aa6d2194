//! Accepts connections and speaks HTTP with clients: reads requests for [`proxy`](crate::proxy) and writes its responses.
//!
//! HTTP/1.1 (RFC 9112), HTTP/2 (RFC 9113) and WebSocket over HTTP/2 (RFC 8441). Upstream requests are always HTTP/1.1, one
//! for each HTTP/2 stream.
//!
//! May use `proxy`, `worker`, `upstream`, `settings`, `http`, `observe` and `net`.

mod connection;
mod http1;
mod http1_response;
mod http2;
mod http2_head_timer;
mod http2_stream;
pub(crate) mod listener;
mod reject;
