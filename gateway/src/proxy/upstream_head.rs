//! What head is the upstream sent?
//!
//! The client's own lines, in order and spelling, without what belongs to this hop and with what the policy changes; then
//! what the gateway says for itself.

use fluxlit_policy::Edit;

use crate::http::framing::Length;
use crate::http::hop_by_hop;
use crate::observe::trace::Propagation;
use crate::proxy::decide::{Facts, Incoming};
use crate::proxy::downstream::{REQUEST_ID, replaces};
use crate::proxy::handshake::Handshake;
use crate::worker::Worker;

/// Writes the head that the upstream is sent.
pub(super) fn write_head(
    worker: &Worker,
    request: &Incoming<'_>,
    edits: &[Edit],
    facts: &Facts,
    api: bool,
    handshake: Option<&Handshake>,
) -> Vec<u8> {
    let mut head = worker.spare_head();
    let mut put = |parts: &[&[u8]]| {
        for part in parts {
            head.extend_from_slice(part);
        }
    };
    let target = edits.iter().rev().find_map(|edit| match edit {
        Edit::Target(target) => Some(target.as_slice()),
        _ => None,
    });
    let host = edits.iter().rev().find_map(|edit| match edit {
        Edit::Host(host) => Some(host.as_slice()),
        _ => None,
    });
    put(&[
        request.method,
        b" ",
        target.unwrap_or(request.target),
        b" HTTP/1.1\r\nhost: ",
    ]);
    put(&[host.or(request.host).unwrap_or_default(), b"\r\n"]);
    for (name, value) in request.fields {
        if hop_by_hop::is_hop_by_hop(name)
            || name.eq_ignore_ascii_case(REQUEST_ID)
            || facts.drops_trace(name)
            || replaces(edits, name)
        {
            continue;
        }
        if !api && !worker.settings.drop_cookies.is_empty() && name.eq_ignore_ascii_case(b"cookie")
        {
            match worker.settings.drop_cookies.filter(value) {
                Some(left) if left.is_empty() => {}
                Some(left) => put(&[name, b": ", &left, b"\r\n"]),
                None => put(&[name, b": ", value, b"\r\n"]),
            }
            continue;
        }
        put(&[name, b": ", value, b"\r\n"]);
    }
    for edit in edits {
        if let Edit::Append(name, value) | Edit::Set(name, value) = edit
            && !hop_by_hop::is_hop_by_hop(name.as_bytes())
        {
            put(&[name.as_bytes(), b": ", value, b"\r\n"]);
        }
    }
    if let (Some(trace), Propagation::Replaced | Propagation::Started) =
        (&facts.trace, facts.propagation)
    {
        put(&[TRACEPARENT, b": ", trace.traceparent().as_bytes(), b"\r\n"]);
    }
    put(&[REQUEST_ID, b": ", facts.request_id.as_bytes(), b"\r\n"]);
    match request.length {
        // A method that has a meaning for a body says that there is none, RFC 9110 §8.6.
        Length::Empty if matches!(request.method, b"POST" | b"PUT" | b"PATCH") => {
            put(&[b"content-length: 0\r\n"]);
        }
        Length::Empty | Length::UntilEnd => {}
        Length::Exact(length) => {
            put(&[b"content-length: ", length.to_string().as_bytes(), b"\r\n"]);
        }
        Length::Chunked => put(&[b"transfer-encoding: chunked\r\n"]),
    }
    if let Some(handshake) = handshake {
        put(&[b"connection: Upgrade\r\nupgrade: websocket\r\n"]);
        if let Some(key) = &handshake.key {
            put(&[b"sec-websocket-key: ", key.as_bytes(), b"\r\n"]);
        }
    }
    put(&[b"\r\n"]);
    head
}

impl Facts {
    /// Whether a field of the client's speaks of a trace that is another one upstream.
    fn drops_trace(&self, name: &[u8]) -> bool {
        match self.propagation {
            Propagation::Unchanged => false,
            Propagation::Replaced => name.eq_ignore_ascii_case(TRACEPARENT),
            Propagation::Removed | Propagation::Started => {
                name.eq_ignore_ascii_case(TRACEPARENT) || name.eq_ignore_ascii_case(TRACESTATE)
            }
        }
    }
}

/// W3C Trace Context.
pub(super) const TRACEPARENT: &[u8] = b"traceparent";
const TRACESTATE: &[u8] = b"tracestate";
