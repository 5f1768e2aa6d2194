//! Serves one HTTP/2 stream.
//!
//! The request, RFC 9113 §8, is converted to the form of HTTP/1.1, which the policy and the upstream expect: `:authority`
//! becomes the host, the crumbs of a cookie become one line, and an extended CONNECT becomes a WebSocket handshake.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use fluxlit_policy::{Header, Reason as PolicyReason, is_same_host};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::http::body::{BodyError, Chunk, Sink, Source};
use crate::http::framing::{Framing, Length};
use crate::http::head::{HeadError, Version, read_trailers};
use crate::http::hpack::FieldLines;
use crate::http::http2_frames::trailers_error;
use crate::http::http2_head::{Http2Head, Http2HeadError, TrailersError};
use crate::http::reader::Body;
use crate::observe::reject_reason::RejectReason;
use crate::observe::{Ending, HttpVersion};
use crate::proxy::decide::decide;
use crate::proxy::downstream::{Downstream, DownstreamHead};
use crate::proxy::exchange::carry_out;
use crate::proxy::failure::Rejection;
use crate::proxy::in_flight::InFlight;
use crate::proxy::outcome::Outcome;
use crate::proxy::request::{Incoming, Plan, Progress, Timers};
use crate::proxy::tunnel;
use crate::server::connection::Accepted;
use crate::upstream::pool::Connection;
use crate::worker::Worker;

/// Serves the request of a stream, whose head is `lines`.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    accepted: &Accepted,
    lines: FieldLines,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let head = Http2Head::read(&lines);
    let plan = decide_stream(worker, accepted, &head, body.is_end_stream());
    let is_malformed = head.fault == Some(Http2HeadError::Malformed);
    // Not kept while the stream is open.
    drop(lines);
    let mut request = InFlight::new(worker, plan);
    if is_malformed {
        request.ending = Ending::Rejected(RejectReason::BadHead);
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return;
    }
    let sender = Rc::new(RefCell::new(Sender::Waiting(respond)));
    let mut down = Http2Downstream {
        sender: Rc::clone(&sender),
        head: None,
        informational: 0,
    };
    let mut source = Http2Body {
        body,
        sender: Rc::clone(&sender),
        unreleased: 0,
        has_ended: false,
    };
    let mut timers = Timers::default();
    let outcome = carry_out(&request, &mut source, &mut down, &mut timers).await;
    request.ending = match outcome {
        Outcome::Complete(ending) => ending,
        Outcome::Incomplete(ending) => {
            sender.borrow_mut().reset(Reason::INTERNAL_ERROR);
            ending
        }
        Outcome::Tunnel(upstream) => {
            connect(worker, source, down, *upstream, &request.progress).await
        }
    };
}

/// Decides how to handle the request of a stream.
fn decide_stream(
    worker: &Worker,
    accepted: &Accepted,
    head: &Http2Head<'_>,
    has_ended: bool,
) -> Plan {
    let is_websocket = head
        .protocol
        .is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
    let cookie = join_cookies(&head.fields);
    let fields = convert_fields(&head.fields, cookie.as_deref(), is_websocket);
    let framing = Framing::of(&fields);
    let declared = framing.request_length(Version::Http11);
    let target = if head.is_plain_connect() {
        head.authority
    } else {
        head.path
    };
    let target = target.unwrap_or_default();
    let limits = &worker.settings.limits;
    let rejection: Option<Rejection> = match head.fault {
        Some(fault) => Some(reject_head(fault)),
        None if fields.len() > limits.fields => Some(HeadError::TooManyFields.into()),
        None if head.protocol.is_some() && !is_websocket => {
            Some(Rejection::bad_head(501, "This protocol is not supported."))
        }
        None if declared.is_err() => Some(Rejection::ambiguous_length()),
        None => None,
    };
    let length = match declared {
        _ if is_websocket => Length::Empty,
        Ok(Length::Exact(0)) => Length::Exact(0),
        _ if has_ended => Length::Empty,
        Ok(Length::Exact(length)) => Length::Exact(length),
        Ok(_) | Err(_) => Length::Chunked,
    };
    let scheme = head.scheme.unwrap_or_default();
    // A `host` that names the same host as `:authority` says nothing new, RFC 9113 §8.3.1.
    let same = |host: &&[u8]| {
        let is_same = |authority| is_same_host(scheme, authority, host);
        head.authority.is_some_and(is_same)
    };
    let others = match head.hosts.as_slice() {
        [host] if same(host) => 0,
        hosts => hosts.len(),
    };
    let request = Incoming {
        peer: accepted.peer,
        identity: accepted.identity.as_deref(),
        tls: accepted.tls,
        version: HttpVersion::Http2,
        method: if is_websocket { b"GET" } else { head.method },
        target,
        hosts: others + usize::from(head.authority.is_some()),
        host: head.authority.or(head.hosts.first().copied()),
        fields: &fields,
        framing: &framing,
        length,
        is_websocket,
        is_admin: accepted.is_admin,
    };
    let mut plan = decide(worker, &request);
    if let Some(rejection) = rejection {
        plan.reject(rejection);
    } else if !head.is_plain_connect() && !target.starts_with(b"/") {
        // The policy also accepts a URL, which is no target over HTTP/2, RFC 9113 §8.3.1.
        let reason = PolicyReason::TargetForm;
        plan.reject(Rejection::new(
            RejectReason::Policy(reason),
            400,
            reason.text(),
        ));
    }
    plan
}

fn reject_head(fault: Http2HeadError) -> Rejection {
    match fault {
        Http2HeadError::Head(error) => error.into(),
        // Only logged: the stream is reset.
        Http2HeadError::Malformed => Rejection::bad_head(400, "The request is malformed."),
        Http2HeadError::Method => {
            Rejection::bad_head(400, "The method of the request is malformed.")
        }
        Http2HeadError::Path => Rejection::bad_head(400, "The path of the request is malformed."),
        Http2HeadError::Scheme => {
            Rejection::bad_head(400, "The scheme of the request is malformed.")
        }
    }
}

async fn connect(
    worker: &Worker,
    source: Http2Body,
    down: Http2Downstream,
    upstream: Connection,
    progress: &Progress,
) -> Ending {
    let Connection {
        mut reader,
        mut writer,
        ..
    } = upstream;
    writer.begin(Length::UntilEnd);
    let from_app = Body::new(&mut reader, Length::UntilEnd, 0);
    tunnel::connect(worker, (source, down), (from_app, writer), progress).await
}

/// Joins the crumbs of a cookie to one line, RFC 9113 §8.2.3. Returns `None` if there are fewer than two.
fn join_cookies(fields: &[Header<'_>]) -> Option<Vec<u8>> {
    let crumbs: Vec<&[u8]> = fields
        .iter()
        .filter(|(name, _)| *name == b"cookie")
        .map(|(_, value)| *value)
        .collect();
    (crumbs.len() > 1).then(|| crumbs.join(b"; ".as_slice()))
}

/// Returns the fields as HTTP/1.1 has them. `cookie`: the crumbs, if they were joined.
fn convert_fields<'a>(
    fields: &[Header<'a>],
    cookie: Option<&'a [u8]>,
    is_websocket: bool,
) -> Vec<Header<'a>> {
    let mut converted = Vec::with_capacity(fields.len() + 2);
    let mut cookie = cookie.map(Some);
    for (name, value) in fields {
        match (*name, &mut cookie) {
            // The whole cookie is where the first crumb was.
            (b"cookie", Some(joined)) => {
                converted.extend(joined.take().map(|joined| (*name, joined)));
            }
            // Not used over HTTP/2, RFC 8441 §5. The gateway generates a key for the upstream.
            (b"sec-websocket-key", _) if is_websocket => {}
            _ => converted.push((*name, *value)),
        }
    }
    if is_websocket {
        // Implied by an extended CONNECT, RFC 8441 §5.
        converted.push((b"upgrade", b"websocket"));
    }
    converted
}

/// The sending side of a stream.
enum Sender {
    Waiting(SendResponse<Bytes>),
    Sending(SendStream<Bytes>),
    Ended,
}

impl Sender {
    fn poll_reset(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        let reset = match self {
            Self::Waiting(respond) => respond.poll_reset(context),
            Self::Sending(stream) => stream.poll_reset(context),
            Self::Ended => return std::task::Poll::Pending,
        };
        reset.map(|_| ())
    }

    fn reset(&mut self, reason: Reason) {
        match self {
            Self::Waiting(respond) => respond.send_reset(reason),
            Self::Sending(stream) => stream.send_reset(reason),
            Self::Ended => {}
        }
    }
}

/// A request's body.
struct Http2Body {
    body: RecvStream,
    sender: Rc<RefCell<Sender>>,
    /// Bytes that were returned but may not be written yet. The client's window grows by them on the next read.
    unreleased: usize,
    has_ended: bool,
}

impl Source for Http2Body {
    async fn next(&mut self) -> Result<Option<Chunk>, BodyError> {
        let broken = |error: h2::Error| BodyError::Broken(io::Error::other(error));
        let written = std::mem::take(&mut self.unreleased);
        self.body
            .flow_control()
            .release_capacity(written)
            .map_err(broken)?;
        loop {
            match std::future::poll_fn(|context| self.body.poll_data(context)).await {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.unreleased = data.len();
                    return Ok(Some(Chunk::Shared(data)));
                }
                Some(Err(error)) => return Err(broken(error)),
                None => break,
            }
        }
        if !self.has_ended {
            self.has_ended = true;
            let trailers = std::future::poll_fn(|context| self.body.poll_trailers(context)).await;
            let trailers = trailers.map_err(broken)?.unwrap_or_default();
            match trailers_error(trailers.keys().map(HeaderName::as_str)) {
                None => {}
                Some(TrailersError::Malformed) => return Err(BodyError::Trailers),
                Some(TrailersError::TooLarge) => return Err(BodyError::TrailersTooLarge),
            }
        }
        Ok(None)
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn is_ready(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }

    fn trailers(&self) -> &[u8] {
        // Trailers of requests are not forwarded, so they are only checked.
        &[]
    }

    async fn closed(&mut self) -> BodyError {
        std::future::poll_fn(|context| self.sender.borrow_mut().poll_reset(context)).await;
        BodyError::Incomplete
    }
}

/// Writes a response to a stream.
struct Http2Downstream {
    sender: Rc<RefCell<Sender>>,
    /// A head that has not been sent yet, and true if no body follows it.
    head: Option<(Response<()>, bool)>,
    /// Number of informational responses that were sent.
    informational: u32,
}

impl Http2Downstream {
    /// Sends the head if it has not been sent yet. Returns true if it ends the stream.
    fn send_head(&mut self, ends: bool) -> io::Result<bool> {
        let Some((head, is_alone)) = self.head.take() else {
            return Ok(false);
        };
        let mut sender = self.sender.borrow_mut();
        let Sender::Waiting(respond) = &mut *sender else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let has_ended = ends || is_alone;
        let stream = respond
            .send_response(head, has_ended)
            .map_err(io::Error::other)?;
        *sender = if has_ended {
            Sender::Ended
        } else {
            Sender::Sending(stream)
        };
        Ok(has_ended)
    }
}

impl Downstream for Http2Downstream {
    fn begin(&mut self, response: &DownstreamHead<'_>) {
        let switches = response.status == 101;
        let mut head = to_response(response);
        let headers = head.headers_mut();
        if switches {
            // 200 opens the WebSocket on the stream itself, RFC 8441 §5.
            headers.remove(http::header::SEC_WEBSOCKET_ACCEPT);
            *head.status_mut() = StatusCode::OK;
        } else if let Length::Exact(length) = response.length {
            headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
        } else if let Some(declared) = response.declared
            && let Ok(declared) = HeaderValue::from_bytes(declared)
        {
            headers.insert(http::header::CONTENT_LENGTH, declared);
        }
        self.head = Some((head, response.length == Length::Empty && !switches));
    }

    fn take_back(&mut self) -> bool {
        self.head.take().is_some()
    }

    async fn send_informational(&mut self, response: &DownstreamHead<'_>) -> io::Result<()> {
        if self.informational == MAX_INFORMATIONAL {
            return Ok(());
        }
        self.informational += 1;
        match &mut *self.sender.borrow_mut() {
            Sender::Waiting(respond) => respond
                .send_informational(to_response(response))
                .map_err(io::Error::other),
            Sender::Sending(_) | Sender::Ended => Ok(()),
        }
    }
}

impl Sink for Http2Downstream {
    async fn data(&mut self, mut data: &[u8]) -> io::Result<()> {
        self.send_head(false)?;
        while !data.is_empty() {
            let room = std::future::poll_fn(|context| match &mut *self.sender.borrow_mut() {
                Sender::Sending(stream) => {
                    stream.reserve_capacity(data.len());
                    stream.poll_capacity(context)
                }
                Sender::Waiting(_) | Sender::Ended => std::task::Poll::Ready(None),
            });
            let room = room
                .await
                .ok_or(io::ErrorKind::BrokenPipe)?
                .map_err(io::Error::other)?;
            let (now, later) = data.split_at_checked(room).unwrap_or((data, &[]));
            data = later;
            if let Sender::Sending(stream) = &mut *self.sender.borrow_mut() {
                stream
                    .send_data(Bytes::copy_from_slice(now), false)
                    .map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.send_head(false).map(|_| ())
    }

    async fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        if self.send_head(false)? {
            return Ok(());
        }
        let mut sender = self.sender.borrow_mut();
        if let Sender::Sending(stream) = &mut *sender {
            let sent = match to_trailers(trailers) {
                Some(trailers) => stream.send_trailers(trailers),
                None => stream.send_data(Bytes::new(), true),
            };
            sent.map_err(io::Error::other)?;
            *sender = Sender::Ended;
        }
        Ok(())
    }
}

fn to_response(head: &DownstreamHead<'_>) -> Response<()> {
    let mut response = Response::new(());
    // Always valid: a status was read as three digits.
    *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.reserve(head.fields.len() + FURTHER_FIELDS);
    head.emit(|name, value| {
        // Always valid: the HTTP/1.1 parser has checked name and value by the same rules.
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    });
    response
}

fn to_trailers(section: &[u8]) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    for (name, value) in read_trailers(section).unwrap_or_default() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            trailers.append(name, value);
        }
    }
    (!trailers.is_empty()).then_some(trailers)
}

/// The number of fields for which there is room in addition to those of the upstream.
const FURTHER_FIELDS: usize = 6;

/// Maximum number of informational responses to forward on each stream. HTTP/2 has no flow control for them, so an
/// upstream that never stops sending them would exhaust the memory.
const MAX_INFORMATIONAL: u32 = 8;
