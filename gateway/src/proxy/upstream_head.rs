//! Writes the head of the upstream request.
//!
//! It has the client's lines in their order and spelling, without hop-by-hop fields and with the policy's edits, then the
//! gateway's own lines. The body is framed as the client has framed it.

use fluxlit_policy::{Edit, Edits};

use crate::http::framing::Length;
use crate::http::hop_by_hop;
use crate::observe::HttpVersion;
use crate::observe::trace::Propagation;
use crate::observe::upstream::Upstream;
use crate::proxy::downstream::{REQUEST_ID, replaces};
use crate::proxy::request::{Handshake, Incoming, RequestInfo};
use crate::worker::Worker;

/// Writes the head of the upstream request.
pub(super) fn write_head(
    worker: &Worker,
    request: &Incoming<'_>,
    edits: &Edits,
    info: &RequestInfo,
    upstream: Upstream,
    handshake: Option<&Handshake>,
) -> Vec<u8> {
    let mut head = worker.spare_head();
    let mut put = |parts: &[&[u8]]| {
        for part in parts {
            head.extend_from_slice(part);
        }
    };
    let target = edits.iter().rev().find_map(|edit| match edit {
        Edit::Target(target) => Some(target),
        _ => None,
    });
    let host = edits.iter().rev().find_map(|edit| match edit {
        Edit::Host(host) => Some(host),
        _ => None,
    });
    put(&[
        request.method,
        b" ",
        target.unwrap_or(request.target),
        b" HTTP/1.1\r\nhost: ",
    ]);
    put(&[host.or(request.host).unwrap_or_default(), b"\r\n"]);
    let drop_cookies = &worker.settings.drop_cookies;
    let drops_cookies = upstream == Upstream::Streamlit && !drop_cookies.is_empty();
    for (name, value) in request.fields {
        if hop_by_hop::is_removed_from_requests(name)
            || name.eq_ignore_ascii_case(REQUEST_ID)
            || drops_trace_field(info.propagation, name)
            || replaces(edits, name)
        {
            continue;
        }
        if drops_cookies && name.eq_ignore_ascii_case(b"cookie") {
            match drop_cookies.filter(value) {
                Some(remaining) if remaining.is_empty() => {}
                Some(remaining) => put(&[name, b": ", &remaining, b"\r\n"]),
                None => put(&[name, b": ", value, b"\r\n"]),
            }
            continue;
        }
        put(&[name, b": ", value, b"\r\n"]);
    }
    for edit in edits.iter() {
        if let Edit::Append(name, value) | Edit::Set(name, value) = edit
            && !hop_by_hop::is_removed_from_requests(name.as_bytes())
        {
            put(&[name.as_bytes(), b": ", value, b"\r\n"]);
        }
    }
    if let (Some(trace), Propagation::Replaced | Propagation::Started) =
        (&info.trace, info.propagation)
    {
        put(&[TRACEPARENT, b": ", trace.traceparent().as_bytes(), b"\r\n"]);
    }
    put(&[REQUEST_ID, b": ", info.request_id.as_bytes(), b"\r\n"]);
    if request.expects_continue() {
        put(&[b"expect: 100-continue\r\n"]);
    }
    match request.length {
        // HTTP/2 says with a flag that there is no body; HTTP/1.1 with a length if the method expects one, RFC 9110 §8.6.
        Length::Empty
            if request.version == HttpVersion::Http2
                && matches!(request.method, b"POST" | b"PUT" | b"PATCH") =>
        {
            put(&[b"content-length: 0\r\n"]);
        }
        Length::Empty | Length::UntilEnd => {}
        Length::Exact(length) => {
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(length);
            put(&[b"content-length: ", digits.as_bytes(), b"\r\n"]);
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

/// Returns true for a trace field of the client that must not be sent upstream.
fn drops_trace_field(propagation: Propagation, name: &[u8]) -> bool {
    match propagation {
        Propagation::Unchanged => false,
        Propagation::Replaced => name.eq_ignore_ascii_case(TRACEPARENT),
        Propagation::Removed | Propagation::Started => {
            name.eq_ignore_ascii_case(TRACEPARENT) || name.eq_ignore_ascii_case(TRACESTATE)
        }
    }
}

/// W3C Trace Context.
pub(super) const TRACEPARENT: &[u8] = b"traceparent";
const TRACESTATE: &[u8] = b"tracestate";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_fields_that_are_not_forwarded() {
        for (propagation, parent, state) in [
            (Propagation::Unchanged, false, false),
            (Propagation::Replaced, true, false),
            (Propagation::Removed, true, true),
            (Propagation::Started, true, true),
        ] {
            assert_eq!(drops_trace_field(propagation, b"TraceParent"), parent);
            assert_eq!(drops_trace_field(propagation, b"TraceState"), state);
            assert!(!drops_trace_field(propagation, b"tracing"));
        }
    }
}
