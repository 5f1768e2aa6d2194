//! What becomes of a request, before anything is done about it?
//!
//! The policy judges it; what passes is for the gateway itself, the API or Streamlit. The head that the upstream will be
//! sent is written here, so that nothing of the client's head has to be kept.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use fluxlit_policy::{Action, Exchange, Header, Peer, Reason, TrustOutcome};
use serde_json::json;
use uuid::{NoContext, Timestamp, Uuid};

use crate::http::framing::{Length, Transport};
use crate::http::head::{all, only};
use crate::http::websocket;
use crate::observe::reject_reason::RejectReason;
use crate::observe::trace::{Propagation, Trace};
use crate::observe::{Dispatch, HttpVersion};
use crate::proxy::downstream::REQUEST_ID;
use crate::proxy::handshake::judge_handshake;
use crate::proxy::internal::{operators_answer, own_answer};
use crate::proxy::local_reply::Reply;
use crate::proxy::upstream_head::{TRACEPARENT, write_head};
use crate::worker::Worker;

/// The head of a request, in whichever version of HTTP it came.
pub(crate) struct Incoming<'a> {
    pub(crate) peer: IpAddr,
    pub(crate) tls: bool,
    pub(crate) version: HttpVersion,
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) host: Option<&'a [u8]>,
    /// How many `Host` lines there are.
    pub(crate) hosts: usize,
    pub(crate) fields: &'a [Header<'a>],
    pub(crate) transport: &'a Transport,
    pub(crate) length: Length,
    pub(crate) is_websocket: bool,
    pub(crate) is_admin: bool,
}

/// What was found out about a request, and what is to be done.
pub(crate) struct Plan {
    pub(crate) facts: Facts,
    pub(crate) exchange: Exchange,
    pub(crate) step: Step,
}

/// What is remembered of a request until it has ended.
pub(crate) struct Facts {
    pub(crate) started: Instant,
    pub(crate) request_id: String,
    pub(crate) dispatch: Dispatch,
    pub(crate) method: Cow<'static, [u8]>,
    pub(crate) target: Box<[u8]>,
    pub(crate) version: HttpVersion,
    pub(crate) is_websocket: bool,
    pub(crate) peer: IpAddr,
    pub(crate) trust: TrustOutcome,
    /// Why it is answered here, for logs and metrics.
    pub(crate) refused: Option<RejectReason>,
    pub(crate) to_head: bool,
    pub(crate) trace: Option<Trace>,
    /// What becomes of the client's word on the trace.
    pub(super) propagation: Propagation,
}

/// What is to be done about a request.
pub(crate) enum Step {
    Answer(Reply),
    Forward(Forward),
}

/// A request on its way to an upstream.
pub(crate) struct Forward {
    pub(crate) is_api: bool,
    /// The whole head as it will be sent.
    pub(crate) head: Vec<u8>,
    pub(crate) length: Length,
    /// Whether the client may wait with its body until it is asked for it; in HTTP/1.0 it cannot be asked.
    pub(crate) expects_continue: bool,
    /// Whether the request may be done twice, RFC 9110 §9.2.2.
    pub(crate) is_idempotent: bool,
    /// The `Sec-WebSocket-Accept` that proves the answer to a handshake.
    pub(crate) accept: Option<String>,
    /// Whether a browser asked for a page.
    pub(crate) wants_page: bool,
}

/// Judges a request.
pub(crate) fn plan(worker: &Worker, request: &Incoming<'_>) -> Plan {
    let policy = &worker.settings.policy;
    let decision = policy.request(&fluxlit_policy::Request {
        peer: Peer::Ip(request.peer),
        identity: None,
        is_reentry: false,
        tls: request.tls,
        method: request.method,
        target: request.target,
        host: request.host,
        headers: request.fields,
    });
    let mut exchange = decision.exchange;
    if exchange.forwarded_ignored {
        worker.shared.warnings.forwarded_ignored(request.peer);
    }
    let (trace, propagation) = worker.observer.trace(all(request.fields, TRACEPARENT));
    let mut facts = Facts {
        started: Instant::now(),
        request_id: request_id(request.fields),
        dispatch: Dispatch::Gateway,
        method: match request.method {
            b"GET" => Cow::Borrowed(b"GET"),
            other => Cow::Owned(other.to_vec()),
        },
        target: request.target.into(),
        version: request.version,
        is_websocket: request.is_websocket,
        peer: request.peer,
        trust: decision.record.trust,
        refused: decision.record.reply_reason.map(RejectReason::Policy),
        to_head: request.method == b"HEAD",
        trace,
        propagation,
    };
    let judged = if request.is_admin {
        Err(operators_answer(worker, request).into())
    } else {
        judge(worker, request, decision.action, &mut exchange, &mut facts)
    };
    let judged = judged.map_err(|refusal| {
        // To an extended CONNECT any 2xx says that the WebSocket is open, RFC 8441 §5.
        if request.is_websocket
            && request.version == HttpVersion::Http2
            && (200..300).contains(&refusal.reply.status)
        {
            Refusal::new(RejectReason::Handshake, 400, "No WebSocket is served here.")
        } else {
            refusal
        }
    });
    let step = match judged {
        Ok(forward) => Step::Forward(forward),
        Err(Refusal { label, reply }) => {
            facts.refused = label.or(facts.refused);
            Step::Answer(reply)
        }
    };
    Plan {
        facts,
        exchange,
        step,
    }
}

impl Plan {
    /// Answers here instead, for a reason that lies in the client's version of HTTP.
    pub(crate) fn refuse(&mut self, label: RejectReason, status: u16, text: &str) {
        self.facts.refused = Some(label);
        self.facts.dispatch = Dispatch::Gateway;
        self.step = Step::Answer(Reply::failure(status, text));
    }
}

/// An answer of our own, and why.
pub(super) struct Refusal {
    label: Option<RejectReason>,
    reply: Reply,
}

impl Refusal {
    pub(super) fn new(label: RejectReason, status: u16, text: &str) -> Self {
        Self {
            label: Some(label),
            reply: Reply::failure(status, text),
        }
    }
}

impl From<Reply> for Refusal {
    fn from(reply: Reply) -> Self {
        Self { label: None, reply }
    }
}

fn judge(
    worker: &Worker,
    request: &Incoming<'_>,
    action: Action,
    exchange: &mut Exchange,
    facts: &mut Facts,
) -> Result<Forward, Refusal> {
    let settings = &worker.settings;
    // RFC 9112 §3.2 and RFC 9113 §8.3.1: exactly one, and only HTTP/1.0 has requests without.
    if request.hosts > 1 || (request.version != HttpVersion::Http10 && request.hosts == 0) {
        return Err(Refusal::new(
            RejectReason::HostLines,
            400,
            "A request has exactly one Host.",
        ));
    }
    if request.method == b"TRACE" {
        return Err(Refusal::new(
            RejectReason::Trace,
            405,
            "TRACE is not allowed here.",
        ));
    }
    if request.target.len() > settings.limits.target_bytes {
        return Err(Refusal::new(
            RejectReason::Policy(Reason::TargetTooLong),
            414,
            "The request target is too long.",
        ));
    }
    let mut forward = match action {
        Action::Forward(forward) => forward,
        Action::Reply(answer) => {
            let status = answer.status(|| request.version == HttpVersion::Http10);
            let reply = Reply::text(status, answer.reason.text());
            return Err(match answer.location {
                Some(location) => reply.with("location", location),
                None => reply,
            }
            .into());
        }
    };
    if request.transport.expects_more {
        return Err(Refusal::new(
            RejectReason::Expectation,
            417,
            "This expectation cannot be met.",
        ));
    }
    if let Some(reply) = own_answer(worker, request, &forward.stripped_target, exchange) {
        return Err(reply.into());
    }
    let api = settings.api.part.strip(&forward.stripped_target).is_some();
    facts.dispatch = if api {
        Dispatch::Api
    } else {
        Dispatch::Streamlit
    };
    if api && settings.api.upstream.is_none() {
        facts.dispatch = Dispatch::Gateway;
        return Err(Reply::json(404, &json!({"detail": "Not Found"})).into());
    }
    if let Length::Exact(length) = request.length
        && settings.limits.body_bytes > 0
        && length > settings.limits.body_bytes
    {
        return Err(Refusal::new(
            RejectReason::BodyTooLarge,
            413,
            &too_large(settings.limits.body_bytes),
        ));
    }
    if api {
        settings
            .policy
            .enter_sub_app(&settings.api.part, &mut forward, exchange);
    }
    let accept = if request.is_websocket {
        Some(judge_handshake(
            worker,
            request,
            api,
            &mut forward,
            exchange,
        )?)
    } else {
        None
    };
    let head = write_head(worker, request, &forward.edits, facts, api, accept.as_ref());
    if accept.is_some() && !api {
        websocket::fits(&head, &settings.limits)
            .map_err(|text| Refusal::new(RejectReason::HandshakeTooLarge, 431, &text))?;
    }
    Ok(Forward {
        is_api: api,
        head,
        length: request.length,
        expects_continue: request.transport.expects_continue
            && request.length != Length::Empty
            && request.version != HttpVersion::Http10,
        is_idempotent: matches!(
            request.method,
            b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE"
        ),
        accept: accept.map(|handshake| handshake.accept),
        wants_page: request.method == b"GET"
            && all(request.fields, b"accept")
                .any(|accept| accept.windows(9).any(|window| window == b"text/html")),
    })
}

/// What is said of a body that is too large.
pub(crate) fn too_large(most: u64) -> String {
    format!(
        "Payload Too Large: the body may have {most} bytes (FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES)."
    )
}

/// Takes a request id that is safe to log and to send, or makes one.
pub(crate) fn request_id(fields: &[Header<'_>]) -> String {
    let given = only(fields, REQUEST_ID).filter(|id| {
        (1..=128).contains(&id.len())
            && id
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(octet))
    });
    match given.and_then(|id| std::str::from_utf8(id).ok()) {
        Some(id) => id.to_owned(),
        // `now_v7` would keep ids in order across workers, by a lock.
        None => Uuid::new_v7(Timestamp::now(NoContext)).to_string(),
    }
}
