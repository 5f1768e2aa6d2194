//! Serves one HTTP/2 stream.
//!
//! The request, RFC 9113 §8, is converted to the form of HTTP/1.1, which the policy and the upstream expect: `:authority`
//! becomes the host, the crumbs of a cookie become one line, and an extended CONNECT becomes a WebSocket handshake.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use fluxlit_policy::Header;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::http::body::{BodyError, Chunk, Sink, Source};
use crate::http::framing::{Framing, Length};
use crate::http::head::{HeadError, Version, read_trailers};
use crate::http::reader::Body;
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

/// Serves the request of a stream.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    accepted: &Accepted,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (head, body) = request.into_parts();
    let plan = decide_stream(worker, accepted, &head, body.is_end_stream());
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
        max_trailers: worker.settings.limits.head_bytes,
        trailers: Vec::new(),
        has_ended: false,
    };
    let mut request = InFlight::new(worker, plan);
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
fn decide_stream(worker: &Worker, accepted: &Accepted, head: &Parts, has_ended: bool) -> Plan {
    let protocol = head.extensions.get::<Protocol>().map(Protocol::as_str);
    let is_websocket = head.method == Method::CONNECT && protocol == Some("websocket");
    let cookie = join_cookies(&head.headers);
    let fields = read_fields(&head.headers, cookie.as_deref(), is_websocket);
    let framing = Framing::of(&fields);
    let declared = framing.request_length(Version::Http11);
    let path = head.uri.path_and_query();
    let target = path.map_or("", |target| target.as_str());
    let authority = head.uri.authority();
    let authority = authority.map(|authority| authority.as_str().as_bytes());
    let size = list_size(&head.headers) + target.len() + authority.map_or(0, <[u8]>::len);
    let limits = &worker.settings.limits;
    let rejection: Option<Rejection> = if size > limits.head_bytes {
        Some(HeadError::TooLarge.into())
    } else if fields.len() > limits.fields {
        Some(HeadError::TooManyFields.into())
    } else if protocol.is_some() && !is_websocket {
        Some(Rejection::bad_head(501, "This protocol is not supported."))
    } else if head.headers.values().any(is_padded) {
        Some(HeadError::Field.into())
    } else if declared.is_err() {
        Some(Rejection::ambiguous_length())
    } else {
        None
    };
    let length = match declared {
        _ if is_websocket => Length::Empty,
        Ok(Length::Exact(0)) => Length::Exact(0),
        _ if has_ended => Length::Empty,
        Ok(Length::Exact(length)) => Length::Exact(length),
        Ok(_) | Err(_) => Length::Chunked,
    };
    let mut hosts: Vec<&[u8]> = head
        .headers
        .get_all(http::header::HOST)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(|host| authority != Some(*host))
        .chain(authority)
        .collect();
    if hosts.iter().all(|host| host.is_empty()) {
        // An empty host counts as none, RFC 9113 §8.3.1.
        hosts.clear();
    }
    let request = Incoming {
        peer: accepted.peer,
        tls: accepted.tls,
        version: HttpVersion::Http2,
        method: if is_websocket {
            b"GET"
        } else {
            head.method.as_str().as_bytes()
        },
        target: target.as_bytes(),
        hosts: hosts.len(),
        host: hosts.pop(),
        fields: &fields,
        framing: &framing,
        length,
        is_websocket,
        is_admin: accepted.is_admin,
    };
    let mut plan = decide(worker, &request);
    if let Some(rejection) = rejection {
        plan.reject(rejection);
    }
    plan
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

/// Returns the size of a field list as RFC 9113 §10.5.1 counts it.
fn list_size(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

/// Returns true if a value begins or ends with white space, which makes a message malformed, RFC 9113 §8.2.1.
fn is_padded(value: &HeaderValue) -> bool {
    matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

/// Checks that a trailer section is well-formed and has at most `max` bytes.
fn check_trailers(trailers: &HeaderMap, max: usize) -> Result<(), BodyError> {
    // The h2 crate silently leaves out pseudo-header fields, RFC 9113 §8.1, and fields that are larger than its limit. An
    // empty section most likely had such a field, because clients do not send empty trailers.
    if trailers.is_empty() || trailers.values().any(is_padded) {
        Err(BodyError::Trailers)
    } else if list_size(trailers) > max {
        Err(BodyError::TrailersTooLarge)
    } else {
        Ok(())
    }
}

/// Joins the crumbs of a cookie to one line, RFC 9113 §8.2.3. Returns `None` if there are fewer than two.
fn join_cookies(headers: &HeaderMap) -> Option<Vec<u8>> {
    let crumbs: Vec<&[u8]> = headers
        .get_all(http::header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    (crumbs.len() > 1).then(|| crumbs.join(b"; ".as_slice()))
}

fn read_fields<'a>(
    headers: &'a HeaderMap,
    cookie: Option<&'a [u8]>,
    is_websocket: bool,
) -> Vec<Header<'a>> {
    let mut fields: Vec<Header<'a>> = headers
        .iter()
        .filter(|(name, _)| {
            *name != http::header::HOST
                && !(cookie.is_some() && *name == http::header::COOKIE)
                // Not used over HTTP/2, RFC 8441 §5. The gateway generates a key for the upstream.
                && !(is_websocket && *name == http::header::SEC_WEBSOCKET_KEY)
        })
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
        .collect();
    fields.extend(cookie.map(|cookie| (b"cookie".as_slice(), cookie)));
    if is_websocket {
        // Implied by an extended CONNECT, RFC 8441 §5.
        fields.push((b"upgrade", b"websocket"));
    }
    fields
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
    /// Maximum size of a trailer section in bytes.
    max_trailers: usize,
    trailers: Vec<u8>,
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
            let trailers = trailers.map_err(broken)?;
            if let Some(trailers) = &trailers {
                check_trailers(trailers, self.max_trailers)?;
            }
            for (name, value) in trailers.iter().flatten() {
                for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                    self.trailers.extend_from_slice(part);
                }
            }
            if !self.trailers.is_empty() {
                self.trailers.extend_from_slice(b"\r\n");
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
        &self.trailers
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

/// Maximum number of informational responses to forward on each stream. HTTP/2 has no flow control for them, so an
/// upstream that never stops sending them would exhaust the memory.
const MAX_INFORMATIONAL: u32 = 8;
