//! Defines a request in its stages: as it arrives, as it is decided, and as it proceeds.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use fluxlit_policy::{Exchange, Header, TrustOutcome};

use crate::http::framing::{Framing, Length};
use crate::net::timer::Timer;
use crate::observe::reject_reason::RejectReason;
use crate::observe::trace::{Propagation, Trace};
use crate::observe::upstream::Upstream;
use crate::observe::{Dispatch, HttpVersion, Phase};
use crate::proxy::failure::Rejection;
use crate::proxy::local_reply::LocalReply;

/// A request's head as `server` has read it, in the same form for HTTP/1.1 and HTTP/2.
pub(crate) struct Incoming<'a> {
    pub(crate) peer: IpAddr,
    /// The URI name of the client's certificate, if it has one that was verified.
    pub(crate) identity: Option<&'a [u8]>,
    pub(crate) tls: bool,
    pub(crate) version: HttpVersion,
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) host: Option<&'a [u8]>,
    /// Number of `Host` lines.
    pub(crate) hosts: usize,
    /// The field lines in order, without `Host`.
    pub(crate) fields: &'a [Header<'a>],
    pub(crate) framing: &'a Framing,
    pub(crate) length: Length,
    pub(crate) is_websocket: bool,
    /// True if it arrived on the admin listener.
    pub(crate) is_admin: bool,
}

impl Incoming<'_> {
    /// Returns true if the client may wait for 100 (Continue) before it sends the body. Not without a body, and not in
    /// HTTP/1.0, RFC 9110 §10.1.1.
    pub(super) fn expects_continue(&self) -> bool {
        self.framing.expects_continue
            && !self.length.is_empty()
            && self.version != HttpVersion::Http10
    }
}

/// A request that was decided.
pub(crate) struct Plan {
    pub(crate) info: RequestInfo,
    pub(crate) exchange: Exchange,
    pub(crate) step: Step,
}

/// The facts about a request that are kept until it has ended.
pub(crate) struct RequestInfo {
    pub(crate) started: Instant,
    /// The same moment as a date, for the id and for reports.
    pub(crate) date: SystemTime,
    pub(crate) request_id: String,
    pub(crate) dispatch: Dispatch,
    pub(crate) method: Cow<'static, [u8]>,
    pub(crate) target: Box<[u8]>,
    pub(crate) version: HttpVersion,
    pub(crate) is_websocket: bool,
    pub(crate) peer: IpAddr,
    pub(crate) trust: TrustOutcome,
    /// True for HEAD, whose response has no body.
    pub(crate) is_head: bool,
    pub(crate) trace: Option<Trace>,
    pub(super) propagation: Propagation,
}

/// The decision about a request.
pub(crate) enum Step {
    Forward(Forward),
    Respond {
        reply: LocalReply,
        /// Why the request is rejected; `None` if it is not.
        reason: Option<RejectReason>,
    },
}

/// A request to be forwarded.
pub(crate) struct Forward {
    pub(crate) upstream: Upstream,
    /// The whole head of the upstream request.
    pub(crate) head: Vec<u8>,
    pub(crate) length: Length,
    /// True if the client may wait for 100 (Continue) before it sends the body.
    pub(crate) expects_continue: bool,
    /// True if the request may be sent twice, RFC 9110 §9.2.2.
    pub(crate) is_idempotent: bool,
    /// The `Sec-WebSocket-Accept` that the response to a WebSocket handshake must have.
    pub(crate) accept: Option<String>,
    /// True if a browser asks for a page.
    pub(crate) wants_page: bool,
    /// True if it is for a script or a style sheet of Streamlit.
    pub(crate) is_asset: bool,
}

/// A WebSocket handshake to be forwarded.
pub(super) struct Handshake {
    /// The key that the gateway generated, because a WebSocket over HTTP/2 has none.
    pub(super) key: Option<String>,
    pub(super) accept: String,
}

/// How far an exchange has got.
#[derive(Default)]
pub(crate) struct Progress {
    /// Bytes of the request's body.
    pub(crate) received: Cell<u64>,
    /// Bytes of the response's body.
    pub(crate) sent: Cell<u64>,
    /// Status of the response, 0 before it has begun.
    pub(crate) status: Cell<u16>,
    /// How far it has got, for the log.
    pub(crate) phase: Cell<Phase>,
    /// When the head of the upstream's response was complete, if requests are logged: nothing else reports it.
    pub(crate) responded: Cell<Option<Instant>>,
}

/// The two timers of an exchange, one for each direction.
#[derive(Default)]
pub(crate) struct Timers {
    pub(super) up: Timer,
    pub(super) down: Timer,
}

impl Plan {
    /// Replaces the plan by a rejection, for a reason specific to the client's version of HTTP.
    pub(crate) fn reject(&mut self, rejection: Rejection) {
        self.info.dispatch = Dispatch::Gateway;
        self.step = Step::Respond {
            reason: Some(rejection.reason),
            reply: rejection.into(),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_expectation_needs_a_body_and_a_version_that_has_it() {
        let expecting = Framing::of(&[(b"expect", b"100-continue")]);
        let not = Framing::of(&[]);
        for (framing, length, version, expected) in [
            (&expecting, Length::Exact(1), HttpVersion::Http11, true),
            (&expecting, Length::Chunked, HttpVersion::Http2, true),
            (&expecting, Length::Exact(0), HttpVersion::Http11, false),
            (&expecting, Length::Empty, HttpVersion::Http2, false),
            (&expecting, Length::Exact(1), HttpVersion::Http10, false),
            (&not, Length::Exact(1), HttpVersion::Http11, false),
        ] {
            let request = Incoming {
                peer: Ipv4Addr::LOCALHOST.into(),
                identity: None,
                tls: false,
                version,
                method: b"PUT",
                target: b"/",
                host: None,
                hosts: 0,
                fields: &[],
                framing,
                length,
                is_websocket: false,
                is_admin: false,
            };
            assert_eq!(
                request.expects_continue(),
                expected,
                "{framing:?} {length:?}"
            );
        }
    }
}
