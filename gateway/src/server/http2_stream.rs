//! What does one stream carry?
//!
//! A request as RFC 9113 §8 has it, turned into what the policy and the upstream know: `:authority` is the host, the
//! crumbs of a cookie become one line again, an extended CONNECT is a WebSocket handshake.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use fluxlit_policy::Header;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::http::body::{BodyError, Chunk, Sink, Source};
use crate::http::framing::{Length, Transport};
use crate::http::head::{Version, read_trailers};
use crate::http::writer::Writer;
use crate::observe::Ending;
use crate::observe::HttpVersion;
use crate::observe::reject_reason::RejectReason;
use crate::proxy::decide::{Incoming, plan};
use crate::proxy::downstream::{AnswerHead, Downstream};
use crate::proxy::exchange::{End, Progress, Timers, carry_out};
use crate::proxy::tunnel;
use crate::server::http1::Accepted;
use crate::upstream::pool::Connection;
use crate::worker::{UnderWay, Worker};

/// Serves a request and its answer.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    accepted: &Accepted,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (head, body) = request.into_parts();
    let sender = Rc::new(RefCell::new(Sender::Waiting(respond)));
    let mut down = Http2Downstream {
        sender: Rc::clone(&sender),
        head: None,
        interim: 0,
    };
    let protocol = head.extensions.get::<Protocol>().map(Protocol::as_str);
    let is_websocket = head.method == Method::CONNECT && protocol == Some("websocket");
    let cookie = join_cookies(&head.headers);
    let fields = read_fields(&head.headers, cookie.as_deref(), is_websocket);
    let transport = Transport::of(&fields);
    let declared = transport.request_length(Version::Http11);
    let target = head
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let authority = head
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let size = list_size(&head.headers) + target.len() + authority.map_or(0, <[u8]>::len);
    let limits = &worker.settings.limits;
    let refusal = if size > limits.head_bytes {
        Some((
            431,
            RejectReason::HeadTooLarge,
            "The head of the request is too large.",
        ))
    } else if fields.len() > limits.fields {
        Some((
            431,
            RejectReason::HeadTooLarge,
            "The request has too many header lines.",
        ))
    } else if protocol.is_some() && !is_websocket {
        Some((
            501,
            RejectReason::BadHead,
            "This protocol is not spoken here.",
        ))
    } else if head.headers.values().any(is_padded) {
        Some((
            400,
            RejectReason::BadHead,
            "A header line of the request is malformed.",
        ))
    } else if declared.is_err() {
        Some((
            400,
            RejectReason::BadHead,
            "The length of the body cannot be told.",
        ))
    } else {
        None
    };
    let length = match declared {
        _ if body.is_end_stream() || is_websocket => Length::Empty,
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
        // A host that is empty is none, RFC 9113 §8.3.1.
        hosts.clear();
    }
    let mut plan = plan(
        worker,
        &Incoming {
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
            transport: &transport,
            length,
            is_websocket,
            is_admin: accepted.is_admin,
        },
    );
    if let Some((status, label, text)) = refusal {
        plan.refuse(label, status, text);
    }
    let mut source = Http2Body {
        body,
        sender: Rc::clone(&sender),
        unreleased: 0,
        most_trailers: limits.head_bytes,
        trailers: Vec::new(),
        has_ended: false,
    };
    let mut request = UnderWay::new(worker, plan);
    let UnderWay { plan, progress, .. } = &mut request;
    let mut timers = Timers::default();
    let carried = carry_out(worker, plan, &mut source, &mut down, &mut timers, progress);
    let (end, ending) = carried.await;
    request.ending = match end {
        End::Complete => ending,
        End::Broken => {
            sender.borrow_mut().reset(Reason::INTERNAL_ERROR);
            ending
        }
        End::Tunnel(upstream) => connect(worker, source, down, *upstream, &request.progress).await,
    };
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
    let from_app = crate::http::reader::Body::new(&mut reader, Length::UntilEnd, 0);
    let app: (_, Writer) = (from_app, writer);
    tunnel::connect(worker, (source, down), app, progress).await
}

/// The size of a list of fields as RFC 9113 §10.5.1 counts it.
fn list_size(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

/// Whether white space is around a value, which makes a message malformed, RFC 9113 §8.2.1.
fn is_padded(value: &HeaderValue) -> bool {
    matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

/// Whether a trailer section is one, and not too large.
fn check_trailers(trailers: &HeaderMap, most: usize) -> Result<(), BodyError> {
    // The h2 crate leaves out pseudo-header fields, RFC 9113 §8.1, and a field that is larger than it reads, without
    // saying so. Where nothing is left there was most likely such a one: nobody sends trailers that are none.
    if trailers.is_empty() || trailers.values().any(is_padded) {
        Err(BodyError::Trailers)
    } else if list_size(trailers) > most {
        Err(BodyError::TrailersTooLarge)
    } else {
        Ok(())
    }
}

/// The crumbs of a cookie as one line, RFC 9113 §8.2.3; `None` if there are not several.
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
                // Of no use on a stream, RFC 8441 §5, and the upstream is sent one of our own.
                && !(is_websocket && *name == http::header::SEC_WEBSOCKET_KEY)
        })
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
        .collect();
    fields.extend(cookie.map(|cookie| (b"cookie".as_slice(), cookie)));
    if is_websocket {
        // What an extended CONNECT says in its method, RFC 8441 §5.
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
    /// Bytes that were handed on; the client may send as many again once they are written.
    unreleased: usize,
    /// Most bytes of a trailer section.
    most_trailers: usize,
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
                check_trailers(trailers, self.most_trailers)?;
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

    fn is_at_hand(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }

    fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    async fn left(&mut self) -> BodyError {
        std::future::poll_fn(|context| self.sender.borrow_mut().poll_reset(context)).await;
        BodyError::Incomplete
    }
}

/// An answer on a stream.
struct Http2Downstream {
    sender: Rc<RefCell<Sender>>,
    /// A head that was not sent yet, and whether nothing follows it.
    head: Option<(Response<()>, bool)>,
    /// How many informational answers were sent.
    interim: u32,
}

impl Http2Downstream {
    /// Sends the head that was kept back; `true` if the stream has ended with it.
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
    fn begin(&mut self, answer: &AnswerHead<'_>) {
        let switches = answer.status == 101;
        let mut head = to_response(answer);
        let headers = head.headers_mut();
        if switches {
            // The stream itself is what is switched to, RFC 8441 §5.
            headers.remove(http::header::SEC_WEBSOCKET_ACCEPT);
            *head.status_mut() = StatusCode::OK;
        } else if let Length::Exact(length) = answer.length {
            headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
        } else if let Some(declared) = answer.declared
            && let Ok(declared) = HeaderValue::from_bytes(declared)
        {
            headers.insert(http::header::CONTENT_LENGTH, declared);
        }
        self.head = Some((head, answer.length == Length::Empty && !switches));
    }

    fn take_back(&mut self) -> bool {
        self.head.take().is_some()
    }

    async fn interim(&mut self, answer: &AnswerHead<'_>) -> io::Result<()> {
        if self.interim == MOST_INTERIM {
            return Ok(());
        }
        self.interim += 1;
        match &mut *self.sender.borrow_mut() {
            Sender::Waiting(respond) => respond
                .send_informational(to_response(answer))
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

fn to_response(answer: &AnswerHead<'_>) -> Response<()> {
    let mut response = Response::new(());
    // Statuses are three digits here; what has been read as one is one.
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    answer.emit(|name, value| {
        // Both were read as HTTP/1.1 has them, which is what this checks as well.
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

/// Informational answers that are passed on, on each stream. Those of HTTP/2 cannot wait for a client to take them, so
/// what an upstream sends without end would pile up here; of more than a few nobody has a use.
const MOST_INTERIM: u32 = 8;
