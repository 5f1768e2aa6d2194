//! Reads and writes HTTP/1.1 messages, HTTP/2 frames and WebSocket frame boundaries as plain bytes.
//!
//! Strict RFC 9112: a message that two programs read differently can smuggle a request past a proxy, so everything that the
//! RFC lets a recipient tolerate is rejected: bare line feeds, folded lines, white space before a colon, two lengths, a length
//! next to a transfer coding. What is accepted is forwarded unchanged: the spelling and order of field names, and every byte
//! of values and targets.
//!
//! # Why not hyper
//!
//! hyper 1.12 reads HTTP/1.1 leniently and has no strict mode: its parser (`httparse`) accepts a bare line feed as the end of
//! a line, `http::Uri` drops the fragment of a target, and `http::HeaderMap` groups the lines of a field, so their order is
//! lost. The gateway could neither reject such a message nor forward it unchanged. For HTTP/2 see [`http2_connection`].
//!
//! May use `observe` and `net`.

pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod hop_by_hop;
pub(crate) mod hpack;
mod hpack_encoder;
mod hpack_table;
mod http2_block;
pub(crate) mod http2_connection;
pub(crate) mod http2_frame;
pub(crate) mod http2_head;
mod http2_output;
mod http2_streams;
mod huffman;
pub(crate) mod reader;
pub(crate) mod websocket;
pub(crate) mod writer;
