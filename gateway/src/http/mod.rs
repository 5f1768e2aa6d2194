//! HTTP/1.1 on the wire, as RFC 9112 has it and nothing beside it.
//!
//! Messages that two programs may read differently are how requests are smuggled past a proxy, so whatever the RFC lets a
//! recipient tolerate is refused: bare line feeds, folded lines, white space before a colon, two lengths, a length beside
//! a transfer coding. What passes, passes as it came: names in their spelling, values and targets to the byte.

pub(crate) mod chunked;
pub(crate) mod head;
pub(crate) mod reader;
pub(crate) mod refuse;
pub(crate) mod serve;
pub(crate) mod transport;
pub(crate) mod writer;
