//! Checks WebSocket handshakes before they are forwarded.
//!
//! Only pages of the app and pages that the operator allows may open a WebSocket. Streamlit checks this once more and
//! compares `Host` and `Origin` as strings, so the gateway sends it a `Host` that is spelled like the `Origin`.

use fluxlit_policy::{Exchange, Forward, OriginOutcome};

use crate::http::head::{all, only};
use crate::http::websocket;
use crate::observe::HttpVersion;
use crate::observe::reject_reason::RejectReason;
use crate::observe::upstream::Upstream;
use crate::proxy::failure::Rejection;
use crate::proxy::request::{Handshake, Incoming};
use crate::settings::Limits;
use crate::worker::Worker;

/// Checks a handshake and prepares it to be forwarded.
pub(super) fn check_handshake(
    worker: &Worker,
    request: &Incoming<'_>,
    upstream: Upstream,
    forward: &mut Forward,
    exchange: &mut Exchange,
) -> Result<Handshake, Rejection> {
    let malformed = |text| Rejection::new(RejectReason::Handshake, 400, text);
    if !request.length.is_empty() {
        return Err(malformed("A WebSocket handshake must not have a body."));
    }
    let origins = &worker.settings.allowed_origins;
    match origins.check(exchange, all(request.fields, b"origin")) {
        OriginOutcome::NotAllowed => {
            let text = "This page may not open a WebSocket here: its Origin is not the app's. \
                        FLUXLIT_GATEWAY_ALLOWED_ORIGINS allows more.";
            return Err(Rejection::new(RejectReason::ForeignOrigin, 403, text));
        }
        OriginOutcome::SameOrigin if upstream == Upstream::Streamlit => {
            // Streamlit compares Host and Origin as strings, including case and port.
            if let Some(origin) = only(request.fields, b"origin") {
                exchange.set_host_to_origin(origin, &mut forward.edits);
            }
        }
        OriginOutcome::Absent | OriginOutcome::Listed | OriginOutcome::SameOrigin => {}
    }
    if request.version == HttpVersion::Http2 {
        let key = websocket::new_key();
        return Ok(Handshake {
            accept: websocket::accept(key.as_bytes()),
            key: Some(key),
        });
    }
    let key = only(request.fields, b"sec-websocket-key").ok_or_else(|| {
        malformed("A WebSocket handshake must have exactly one Sec-WebSocket-Key.")
    })?;
    Ok(Handshake {
        key: None,
        accept: websocket::accept(key),
    })
}

/// Rejects a handshake that Streamlit would never respond to: it hangs on a long header line and on very many lines, such
/// as a browser with many cookies sends.
///
/// Returns the length of the longest header line, its end included.
pub(super) fn check_size(head: &[u8], limits: &Limits) -> Result<usize, Rejection> {
    let mut lines = 0;
    let mut longest = 0;
    for line in head.split(|octet| *octet == b'\n') {
        lines += 1;
        longest = longest.max(line.len() + 1);
    }
    // Neither the request line nor the empty line and what follows it is a field.
    let fields = lines - 3;
    let text = if longest > limits.websocket_line_bytes {
        format!(
            "A header line of this WebSocket handshake has {longest} bytes, but Streamlit accepts {}. Too many cookies? \
             FLUXLIT_DROP_COOKIES removes those of an auth proxy. To accept more, set WEBSOCKETS_MAX_LINE_LENGTH for \
             Streamlit and FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES for the gateway.",
            limits.websocket_line_bytes
        )
    } else if fields > limits.websocket_fields {
        format!(
            "This WebSocket handshake has {fields} header lines, but Streamlit accepts {}. To accept more, set \
             WEBSOCKETS_MAX_NUM_HEADERS for Streamlit and FLUXLIT_GATEWAY_WS_MAX_HEADER_COUNT for the gateway.",
            limits.websocket_fields
        )
    } else {
        return Ok(longest);
    };
    Err(Rejection::new(RejectReason::HandshakeTooLarge, 431, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_that_streamlit_responds_to() {
        let limits = Limits::default();
        let check = |line: String| {
            let head = format!("GET / HTTP/1.1\r\nhost: a\r\n{line}\r\n");
            let checked = check_size(head.as_bytes(), &limits);
            checked.map_err(|rejection| format!("{rejection:?}"))
        };
        assert_eq!(check("cookie: a=b\r\n".to_owned()), Ok(16));
        let long = check(format!("cookie: {}\r\n", "x".repeat(9000)));
        assert!(long.unwrap_err().contains("cookies"));
        let many = check("x: y\r\n".repeat(150));
        assert!(many.unwrap_err().contains("151 header lines"));
        // The limits themselves are allowed: a line with its end, and all lines with the Host.
        let line = |length: usize| format!("{}\r\n", "x".repeat(length - 2));
        let max = limits.websocket_line_bytes;
        assert_eq!(check(line(max)), Ok(max));
        assert!(check(line(limits.websocket_line_bytes + 1)).is_err());
        assert!(check("x: y\r\n".repeat(limits.websocket_fields - 1)).is_ok());
        assert!(check("x: y\r\n".repeat(limits.websocket_fields)).is_err());
    }
}
