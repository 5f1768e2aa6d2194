//! Which WebSocket handshakes go on?
//!
//! Those of the app's own pages, and of pages that the operator allows. Streamlit judges them once more, by comparing texts, so
//! the `Host` it is sent is spelt as the `Origin`.

use fluxlit_policy::{Edit, Exchange, Forward, OriginOutcome};

use crate::http::framing::Length;
use crate::http::head::{all, only};
use crate::http::websocket;
use crate::observe::HttpVersion;
use crate::observe::reject_reason::RejectReason;
use crate::proxy::decide::{Incoming, Refusal};
use crate::worker::Worker;

/// Judges a handshake.
pub(super) fn judge_handshake(
    worker: &Worker,
    request: &Incoming<'_>,
    api: bool,
    forward: &mut Forward,
    exchange: &mut Exchange,
) -> Result<Handshake, Refusal> {
    if request.length != Length::Empty {
        return Err(Refusal::new(
            RejectReason::Handshake,
            400,
            "A WebSocket handshake has no body.",
        ));
    }
    let origins = &worker.settings.allowed_origins;
    match origins.check(exchange, all(request.fields, b"origin")) {
        OriginOutcome::NotAllowed => {
            return Err(Refusal::new(
                RejectReason::ForeignOrigin,
                403,
                "This page may not open a WebSocket here: its Origin is not the app's. \
                 FLUXLIT_GATEWAY_ALLOWED_ORIGINS allows more.",
            ));
        }
        OriginOutcome::SameOrigin if !api => {
            // Streamlit compares Host and Origin as texts, case and port included.
            let host = only(request.fields, b"origin")
                .and_then(|origin| exchange.set_host_to_origin(origin));
            if let Some(host) = host {
                forward.edits.retain(|edit| !matches!(edit, Edit::Host(_)));
                forward.edits.push(host);
            }
        }
        OriginOutcome::Absent | OriginOutcome::Listed | OriginOutcome::SameOrigin => {}
    }
    let key = match only(request.fields, b"sec-websocket-key") {
        _ if request.version == HttpVersion::Http2 => None,
        Some(key) => Some(key),
        None => {
            return Err(Refusal::new(
                RejectReason::Handshake,
                400,
                "A WebSocket handshake has one Sec-WebSocket-Key.",
            ));
        }
    };
    Ok(match key {
        Some(key) => Handshake {
            key: None,
            accept: websocket::accept(key),
        },
        None => {
            let key = websocket::new_key();
            Handshake {
                accept: websocket::accept(key.as_bytes()),
                key: Some(key),
            }
        }
    })
}

/// A WebSocket handshake that may go on.
pub(super) struct Handshake {
    /// A key of our own, where the client's version of HTTP has none.
    pub(super) key: Option<String>,
    pub(super) accept: String,
}
