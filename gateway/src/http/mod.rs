//! Reads and writes HTTP/1.1 messages and WebSocket frame boundaries as plain bytes.
//!
//! Strict RFC 9112: two programs that read one message differently are how requests are smuggled past a proxy, so
//! everything that the RFC lets a recipient tolerate is rejected: bare line feeds, folded lines, white space before a colon,
//! two lengths, a length next to a transfer coding. What is accepted is forwarded unchanged: the spelling and order of field
//! names, and every byte of values and targets.
//!
//! # Why not hyper
//!
//! hyper reads HTTP/1.1 leniently, and its settings cannot turn that off: it accepts a bare line feed as the end of a line and
//! drops the fragment of a target. Its `HeaderMap` lower-cases names and groups the lines of a field, so the upstream would not
//! receive what the client sent. A proxy that has to reject these messages must see the bytes, and then the parsing is done
//! already. HTTP/2 has one unambiguous framing, so it is left to the `h2` crate (`server::http2`).
//!
//! May use `observe` and `net`.

pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod hop_by_hop;
pub(crate) mod reader;
pub(crate) mod websocket;
pub(crate) mod writer;
