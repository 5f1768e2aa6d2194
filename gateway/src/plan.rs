//! What becomes of a request, before anything is done about it?
//!
//! The policy judges it; what passes is for the gateway itself, the API or Streamlit. The head that the upstream will be
//! sent is written here, so that nothing of the client's head has to be kept.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use fluxlit_policy::{Action, Edit, Exchange, Header, OriginOutcome, Peer};
use serde_json::json;
use uuid::{NoContext, Timestamp, Uuid};

use crate::downstream::{REQUEST_ID, replaces};
use crate::health::Readiness;
use crate::hop;
use crate::http1::head::{all, only};
use crate::http1::transport::{Length, Transport};
use crate::observe::Dispatch;
use crate::observe::trace::{Onward, Trace};
use crate::refusal;
use crate::reply::Reply;
use crate::websocket;
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

/// The client's version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http10,
    Http11,
    Http2,
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
    pub(crate) trust: &'static str,
    /// Why it is answered here, for logs and metrics.
    pub(crate) refused: Option<&'static str>,
    pub(crate) to_head: bool,
    pub(crate) trace: Option<Trace>,
    /// What becomes of the client's word on the trace.
    onward: Onward,
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
    /// Whether the request may be done twice, RFC 9110 §9.2.2.
    pub(crate) is_idempotent: bool,
    /// The `Sec-WebSocket-Accept` that proves the answer to a handshake.
    pub(crate) accept: Option<String>,
    /// Whether a browser asked for a page.
    pub(crate) wants_page: bool,
}

impl HttpVersion {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

impl Facts {
    /// Whether a field of the client's speaks of a trace that is another one upstream.
    fn drops_trace(&self, name: &[u8]) -> bool {
        match self.onward {
            Onward::Unchanged => false,
            Onward::Replaced => name.eq_ignore_ascii_case(TRACEPARENT),
            Onward::Removed | Onward::Started => {
                name.eq_ignore_ascii_case(TRACEPARENT) || name.eq_ignore_ascii_case(TRACESTATE)
            }
        }
    }
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
    let (trace, onward) = worker.observer.trace(all(request.fields, TRACEPARENT));
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
        trust: decision.account.trust.label(),
        refused: decision.account.answered.map(fluxlit_policy::Reason::label),
        to_head: request.method == b"HEAD",
        trace,
        onward,
    };
    let judged = if request.is_admin {
        Err(operators_answer(worker, request).into())
    } else {
        judge(worker, request, decision.action, &mut exchange, &mut facts)
    };
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

/// An answer of our own, and why.
struct Refusal {
    label: Option<&'static str>,
    reply: Reply,
}

impl Refusal {
    fn new(label: &'static str, status: u16, text: &str) -> Self {
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
    // RFC 9112 §3.2: exactly one, and HTTP/1.1 has no request without.
    if request.hosts > 1 || (request.version == HttpVersion::Http11 && request.hosts == 0) {
        return Err(Refusal::new(
            refusal::HOST_LINES,
            400,
            "A request has exactly one Host.",
        ));
    }
    if request.method == b"TRACE" {
        return Err(Refusal::new(
            refusal::TRACE,
            405,
            "TRACE is not allowed here.",
        ));
    }
    if request.target.len() > settings.limits.target_bytes {
        return Err(Refusal::new(
            refusal::TARGET_TOO_LONG,
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
            refusal::EXPECTATION,
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
            refusal::BODY_TOO_LARGE,
            413,
            &too_large(settings.limits.body_bytes),
        ));
    }
    if api {
        policy_part(worker, &mut forward, exchange);
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
            .map_err(|text| Refusal::new(refusal::HANDSHAKE_TOO_LARGE, 431, &text))?;
    }
    Ok(Forward {
        is_api: api,
        head,
        length: request.length,
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

fn policy_part(worker: &Worker, forward: &mut fluxlit_policy::Forward, exchange: &mut Exchange) {
    let settings = &worker.settings;
    settings.policy.enter(&settings.api.part, forward, exchange);
}

/// A WebSocket handshake that may go on.
struct Handshake {
    /// A key of our own, where the client's version of HTTP has none.
    key: Option<String>,
    accept: String,
}

fn judge_handshake(
    worker: &Worker,
    request: &Incoming<'_>,
    api: bool,
    forward: &mut fluxlit_policy::Forward,
    exchange: &mut Exchange,
) -> Result<Handshake, Refusal> {
    let origins = &worker.settings.allowed_origins;
    match origins.judge(exchange, all(request.fields, b"origin")) {
        OriginOutcome::Foreign => {
            return Err(Refusal::new(
                refusal::FOREIGN_ORIGIN,
                403,
                "This page may not open a WebSocket here: its Origin is not the app's. \
                 FLUXLIT_GATEWAY_ALLOWED_ORIGINS allows more.",
            ));
        }
        OriginOutcome::Own if !api => {
            // Streamlit compares Host and Origin as texts, case and port included.
            let host = only(request.fields, b"origin")
                .and_then(|origin| exchange.host_as_in_origin(origin));
            if let Some(host) = host {
                forward.edits.retain(|edit| !matches!(edit, Edit::Host(_)));
                forward.edits.push(host);
            }
        }
        OriginOutcome::Absent | OriginOutcome::Listed | OriginOutcome::Own => {}
    }
    let key = match only(request.fields, b"sec-websocket-key") {
        _ if request.version == HttpVersion::Http2 => None,
        Some(key) => Some(key),
        None => {
            return Err(Refusal::new(
                refusal::HANDSHAKE,
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

/// Writes the head that the upstream is sent.
fn write_head(
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
        if hop::is_hop_by_hop(name)
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
            && !hop::is_hop_by_hop(name.as_bytes())
        {
            put(&[name.as_bytes(), b": ", value, b"\r\n"]);
        }
    }
    if let (Some(trace), Onward::Replaced | Onward::Started) = (&facts.trace, facts.onward) {
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

/// What the gateway answers itself; `None` for everything else.
fn own_answer(
    worker: &Worker,
    request: &Incoming<'_>,
    stripped_target: &[u8],
    exchange: &Exchange,
) -> Option<Reply> {
    let path_end = stripped_target.iter().position(|octet| *octet == b'?');
    let (path, query) =
        stripped_target.split_at_checked(path_end.unwrap_or(stripped_target.len()))?;
    let is_read = matches!(request.method, b"GET" | b"HEAD");
    if let Some(below) = worker.settings.api.part.strip(path) {
        return match below {
            b"/healthz" | b"/readyz" if !is_read => Some(
                Reply::json(405, &json!({"detail": "Method Not Allowed"}))
                    .with("allow", b"GET, HEAD".as_slice()),
            ),
            b"/healthz" => Some(Reply::json(200, &json!({"status": "ok"}))),
            b"/readyz" => Some(readiness(worker)),
            _ => None,
        };
    }
    match path {
        b"/docs" | b"/docs/" | b"/redoc" | b"/redoc/" | b"/openapi.json" if is_read => {
            let page = path.strip_suffix(b"/").unwrap_or(path);
            let mount = exchange.mount();
            let api = worker.settings.api.part.path();
            let location = [mount.as_bytes(), api.as_bytes(), page, query].concat();
            Some(Reply::redirect(307, location))
        }
        _ if path == INTERNAL || path.starts_with(INTERNAL_FOLDER) => {
            Some(worker.internal(path, is_read, false))
        }
        _ => None,
    }
}

/// What the listener for operators answers: there is no app behind it.
fn operators_answer(worker: &Worker, request: &Incoming<'_>) -> Reply {
    let path = request
        .target
        .split(|octet| *octet == b'?')
        .next()
        .unwrap_or_default();
    let is_read = matches!(request.method, b"GET" | b"HEAD");
    match path {
        b"/healthz" if is_read => Reply::json(200, &json!({"status": "ok"})),
        b"/readyz" if is_read => readiness(worker),
        b"/metrics" => worker.internal(crate::worker::METRICS_PATH, is_read, true),
        path => worker.internal(path, is_read, true),
    }
}

/// Whether requests should be sent here, in FluxLit's shape.
pub(crate) fn readiness(worker: &Worker) -> Reply {
    let streamlit = worker.readiness.streamlit.borrow();
    let api = worker.readiness.api.as_ref().map(|api| api.borrow());
    let reason = match (&*streamlit, api.as_deref()) {
        (Readiness::Draining, _) => Some("the gateway is stopping"),
        (Readiness::NotReady(reason), _) | (_, Some(Readiness::NotReady(reason))) => {
            Some(reason.as_str())
        }
        _ => None,
    };
    match reason {
        Some(reason) => Reply::json(503, &json!({"status": "not_ready", "detail": reason})),
        None if api.is_some() => Reply::json(
            200,
            &json!({"status": "ready", "streamlit": "ok", "api": "ok"}),
        ),
        None => Reply::json(200, &json!({"status": "ready", "streamlit": "ok"})),
    }
}

/// What is said of a body that is too large.
pub(crate) fn too_large(most: u64) -> String {
    format!(
        "Payload Too Large: the body may have {most} bytes (FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES)."
    )
}

/// Takes a request id that is safe to log and to send, or makes one.
fn request_id(fields: &[Header<'_>]) -> String {
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

/// Paths of the gateway's own, which Streamlit never sees.
const INTERNAL: &[u8] = b"/__fluxlit";
const INTERNAL_FOLDER: &[u8] = b"/__fluxlit/";

/// W3C Trace Context.
const TRACEPARENT: &[u8] = b"traceparent";
const TRACESTATE: &[u8] = b"tracestate";
