//! Serves one HTTP/2 stream.
//!
//! The request, RFC 9113 §8, is converted to the form of HTTP/1.1, which the policy and the upstream expect: `:authority`
//! becomes the host, the crumbs of a cookie become one line, and an extended CONNECT becomes a WebSocket handshake.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use fluxlit_policy::{Header, Reason as PolicyReason, is_same_host};

use crate::http::body::{BodyError, Chunk, Sink, Source};
use crate::http::framing::{Framing, Length};
use crate::http::head::{HeadError, Version, read_trailers};
use crate::http::hpack::FieldLines;
use crate::http::http2_connection::{Connection as Http2Connection, Received, Request, Reset};
use crate::http::http2_frame::ErrorCode;
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

/// Serves the request of a stream.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    accepted: &Accepted,
    request: Request,
    stream: StreamHandle,
) {
    let head = Http2Head::read(&request.lines);
    let plan = decide_stream(worker, accepted, &head, request.has_ended);
    let is_malformed = head.fault == Some(Http2HeadError::Malformed);
    // Not kept while the stream is open.
    drop(request);
    let mut request = InFlight::new(worker, plan);
    if is_malformed {
        request.ending = Ending::Rejected(RejectReason::BadHead);
        stream.reset(ErrorCode::Protocol);
        return;
    }
    let mut down = Http2Downstream {
        stream: &stream,
        head: None,
        informational: 0,
    };
    let mut source = Http2Body {
        stream: &stream,
        has_ended: false,
    };
    let mut timers = Timers::default();
    let outcome = carry_out(&request, &mut source, &mut down, &mut timers).await;
    request.ending = match outcome {
        Outcome::Complete { ending, at } => {
            request.ended = Some(at);
            ending
        }
        Outcome::Incomplete(ending) => {
            stream.reset(ErrorCode::Internal);
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
) -> Box<Plan> {
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
    source: Http2Body<'_>,
    down: Http2Downstream<'_>,
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

/// An open stream. It is closed when this is dropped.
pub(super) struct StreamHandle {
    id: u32,
    connection: Rc<RefCell<Http2Connection>>,
}

impl StreamHandle {
    pub(super) fn new(id: u32, connection: Rc<RefCell<Http2Connection>>) -> Self {
        Self { id, connection }
    }

    fn reset(&self, error: ErrorCode) {
        self.connection.borrow_mut().reset(self.id, error);
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.connection.borrow_mut().close(self.id);
    }
}

/// A request's body.
struct Http2Body<'s> {
    stream: &'s StreamHandle,
    has_ended: bool,
}

impl Source for Http2Body<'_> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        let StreamHandle { id, connection } = self.stream;
        let received = connection.borrow_mut().poll_received(*id, context);
        Poll::Ready(match ready!(received) {
            Ok(Received::Data(data)) => Ok(Some(Chunk::Owned(data))),
            Ok(Received::End(Ok(()))) => {
                self.has_ended = true;
                Ok(None)
            }
            Ok(Received::End(Err(TrailersError::Malformed))) => Err(BodyError::Trailers),
            Ok(Received::End(Err(TrailersError::TooLarge))) => Err(BodyError::TrailersTooLarge),
            Err(reset) => Err(BodyError::Broken(reset.into())),
        })
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn is_ready(&self) -> bool {
        let StreamHandle { id, connection } = self.stream;
        self.has_ended || connection.borrow_mut().has_received(*id)
    }

    fn trailers(&self) -> &[u8] {
        // Trailers of requests are not forwarded, so they are only checked.
        &[]
    }

    async fn closed(&mut self) -> BodyError {
        let StreamHandle { id, connection } = self.stream;
        poll_fn(|context| connection.borrow_mut().poll_reset(*id, context)).await;
        BodyError::Incomplete
    }
}

/// Writes a response to a stream.
struct Http2Downstream<'s> {
    stream: &'s StreamHandle,
    /// A head that has not been sent yet.
    head: Option<ResponseHead>,
    /// Number of informational responses that were sent.
    informational: u32,
}

struct ResponseHead {
    status: u16,
    fields: FieldLines,
    /// True if no body follows it.
    is_alone: bool,
}

impl Http2Downstream<'_> {
    /// Sends the head if it has not been sent yet. Returns true if it ends the stream.
    async fn send_head(&mut self, ends: bool) -> Result<bool, Reset> {
        if self.head.is_none() {
            return Ok(false);
        }
        self.room().await?;
        let Some(head) = self.head.take() else {
            return Ok(false);
        };
        let ends = ends || head.is_alone;
        let StreamHandle { id, connection } = self.stream;
        let mut connection = connection.borrow_mut();
        connection.send_head(*id, head.status, &head.fields, ends)?;
        Ok(ends)
    }

    /// Waits until there is room for a header block.
    async fn room(&self) -> Result<(), Reset> {
        let StreamHandle { id, connection } = self.stream;
        poll_fn(|context| connection.borrow_mut().poll_room(*id, context)).await
    }
}

impl Downstream for Http2Downstream<'_> {
    fn begin(&mut self, response: &DownstreamHead<'_>) {
        let switches = response.status == 101;
        let mut fields = fields_of(response, switches);
        match (response.length, response.declared) {
            // The stream of a WebSocket ends when it is closed.
            _ if switches => {}
            (Length::Exact(length), _) => {
                fields.push(
                    CONTENT_LENGTH,
                    itoa::Buffer::new().format(length).as_bytes(),
                );
            }
            (_, Some(declared)) => fields.push(CONTENT_LENGTH, declared),
            (_, None) => {}
        }
        self.head = Some(ResponseHead {
            // 200 opens the WebSocket on the stream itself, RFC 8441 §5.
            status: if switches { 200 } else { response.status },
            fields,
            is_alone: response.length == Length::Empty && !switches,
        });
    }

    fn take_back(&mut self) -> bool {
        self.head.take().is_some()
    }

    async fn send_informational(&mut self, response: &DownstreamHead<'_>) -> io::Result<()> {
        if self.informational == MAX_INFORMATIONAL {
            return Ok(());
        }
        self.informational += 1;
        self.room().await?;
        let fields = fields_of(response, false);
        let StreamHandle { id, connection } = self.stream;
        let mut connection = connection.borrow_mut();
        connection.send_informational(*id, response.status, &fields);
        Ok(())
    }
}

impl Sink for Http2Downstream<'_> {
    async fn data(&mut self, mut data: &[u8]) -> io::Result<()> {
        self.send_head(false).await?;
        while !data.is_empty() {
            let sent = poll_fn(|context| self.poll_write(context, data)).await?;
            data = data.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.send_head(false).await?;
        Ok(())
    }

    async fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        let trailers = trailers_of(trailers);
        if self.send_head(trailers.is_none()).await? {
            return Ok(());
        }
        if trailers.is_some() {
            self.room().await?;
        }
        let StreamHandle { id, connection } = self.stream;
        connection.borrow_mut().send_end(*id, trailers.as_ref())?;
        Ok(())
    }

    fn poll_write(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let StreamHandle { id, connection } = self.stream;
        let sent = connection.borrow_mut().poll_send(*id, data, context);
        sent.map_err(io::Error::from)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection sends by itself.
        Poll::Ready(Ok(()))
    }
}

/// Returns the fields of a response. `switches`: it opens a WebSocket.
fn fields_of(response: &DownstreamHead<'_>, switches: bool) -> FieldLines {
    let mut fields = FieldLines::with_room_for_a_head();
    response.emit(|name, value| {
        // Not used over HTTP/2, RFC 8441 §5.
        if !(switches && name.eq_ignore_ascii_case(b"sec-websocket-accept")) {
            fields.push(name, value);
        }
    });
    fields
}

/// Returns the lines of a trailer section; `None` if there are none.
fn trailers_of(section: &[u8]) -> Option<FieldLines> {
    let mut fields = FieldLines::default();
    for (name, value) in read_trailers(section).unwrap_or_default() {
        fields.push(name, value);
    }
    (fields.len() > 0).then_some(fields)
}

const CONTENT_LENGTH: &[u8] = b"content-length";

/// Maximum number of informational responses to forward on each stream. HTTP/2 has no flow control for them, so an
/// upstream that never stops sending them would exhaust the memory.
const MAX_INFORMATIONAL: u32 = 8;
