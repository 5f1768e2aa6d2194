//! What does a connection over HTTP/1.1 carry?
//!
//! One request after another. What cannot be read for certain is answered and ends the connection, since nobody can say
//! where the next request would begin.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::http::body::{Sink, Source};
use crate::http::framing::{Length, LengthError, Transport};
use crate::http::head::{self, HeadError, RequestHead, Version};
use crate::http::reader::{Body, ReadError, Reader};
use crate::http::writer::Writer;
use crate::net::stream::Io;
use crate::net::timer::{Elapsed, Timer};
use crate::observe::HttpVersion;
use crate::observe::reject_reason::RejectReason;
use crate::proxy::decide::{Incoming, Plan, plan};
use crate::proxy::downstream::{AnswerHead, Downstream};
use crate::proxy::exchange::{End, LINGER, Timers, carry_out};
use crate::proxy::tunnel;
use crate::server::listener::Held;
use crate::server::reject::{Refusal, Unplanned, refuse};
use crate::upstream::pool::Connection;
use crate::worker::{UnderWay, Worker};

/// What is known of a connection before anything was read from it.
pub(crate) struct Accepted {
    pub(crate) io: Rc<Io>,
    pub(crate) peer: IpAddr,
    pub(crate) tls: bool,
    /// Whether it came to the listener for operators.
    pub(crate) is_admin: bool,
    /// The connection's place among those that are counted, if it is.
    #[expect(dead_code, reason = "its end is what counts")]
    pub(crate) held: Option<Held>,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(worker: &Rc<Worker>, accepted: Accepted) {
    let reader = Reader::new(Rc::clone(&accepted.io), Rc::clone(&worker.buffers));
    let mut connection = Served {
        worker: Rc::clone(worker),
        down: Http1Downstream {
            writer: Writer::new(Rc::clone(&accepted.io)),
            version: Version::Http11,
            persists: true,
            ends_with_connection: false,
        },
        reader,
        accepted,
        timer: Timer::default(),
        timers: Timers::default(),
    };
    let mut is_first = true;
    loop {
        match connection.next(is_first).await {
            Next::Again => is_first = false,
            Next::Close => return,
            Next::End => return connection.end().await,
            Next::Linger => return connection.linger().await,
            Next::Http2 => {
                let Served {
                    mut reader,
                    accepted,
                    ..
                } = connection;
                return crate::server::http2::serve(worker, accepted, reader.take_rest()).await;
            }
            Next::Tunnel(request, upstream) => {
                // A task of its own, since this one is made for requests and would hold their memory.
                tokio::task::spawn_local(connection.into_tunnel(request, *upstream));
                return;
            }
        }
    }
}

/// What a connection goes on with.
enum Next {
    Again,
    Close,
    /// All is said, and nothing more was asked.
    End,
    /// Its answer is written, but bytes may come that nobody reads.
    Linger,
    Http2,
    Tunnel(Box<UnderWay>, Box<Connection>),
}

struct Served {
    worker: Rc<Worker>,
    accepted: Accepted,
    reader: Reader,
    down: Http1Downstream,
    timer: Timer,
    timers: Timers,
}

impl Served {
    /// Serves the next request.
    async fn next(&mut self, is_first: bool) -> Next {
        if !self.waits_for_request(is_first).await {
            return Next::End;
        }
        let limits = &self.worker.settings.limits;
        let head = self.reader.head_of_request(limits.head_bytes);
        let length = match self.timer.within(limits.head_read, head).await {
            Ok(Ok(0)) => return Next::End,
            Ok(Ok(length)) => length,
            Ok(Err(ReadError::Head(error))) => return self.refuse(refusal(error)).await,
            Ok(Err(ReadError::Ended | ReadError::Io(_))) => return Next::Close,
            Err(Elapsed) => {
                return self
                    .refuse((
                        408,
                        "The request did not come in time.",
                        RejectReason::HeadTooSlow,
                    ))
                    .await;
            }
        };
        if is_first && self.is_http2() {
            return Next::Http2;
        }
        let (plan, length) = match self.read(length) {
            Ok(read) => read,
            Err(refusal) => return self.refuse(refusal).await,
        };
        self.exchange(plan, length).await
    }

    /// Waits for the first byte of a request; `false` if none will come.
    async fn waits_for_request(&mut self, is_first: bool) -> bool {
        self.reader.skip_empty_lines();
        if !self.reader.bytes().is_empty() {
            return true;
        }
        let limits = &self.worker.settings.limits;
        let limit = if is_first {
            limits.head_read
        } else {
            limits.keep_alive
        };
        let drain = &self.worker.drain;
        if !drain.has_begun() {
            let more = self.timer.within(limit, self.reader.has_more());
            let more = tokio::select! {
                biased;
                more = more => Some(matches!(more, Ok(Ok(true)))),
                () = drain.wait() => None,
            };
            if let Some(more) = more {
                return more;
            }
        }
        // Whoever uses this connection at this very moment is still answered, and told to come on another one.
        let more = self.timer.within(DRAIN_PATIENCE, self.reader.has_more());
        matches!(more.await, Ok(Ok(true)))
    }

    fn is_http2(&self) -> bool {
        self.reader.bytes().starts_with(HTTP2_PREFACE)
    }

    /// Reads the head at the front and plans what becomes of it.
    fn read(&mut self, length: usize) -> Result<(Plan, Length), Refusal> {
        let limits = &self.worker.settings.limits;
        let bytes = self.reader.bytes().get(..length).unwrap_or_default();
        if bytes.len() > limits.head_bytes {
            return Err(refusal(HeadError::TooLarge));
        }
        let head = RequestHead::read(bytes, limits.fields).map_err(refusal)?;
        let transport = Transport::of(&head.fields);
        let length_of_body =
            transport
                .request_length(head.version)
                .map_err(|error| match error {
                    LengthError::Coding => (
                        501,
                        "This transfer coding is not understood.",
                        RejectReason::BadHead,
                    ),
                    _ => bad("The length of the body cannot be told."),
                })?;
        let is_websocket =
            head.version == Version::Http11 && head.method == b"GET" && transport.is_websocket();
        let plan = plan(
            &self.worker,
            &Incoming {
                peer: self.accepted.peer,
                tls: self.accepted.tls,
                version: match head.version {
                    Version::Http10 => HttpVersion::Http10,
                    Version::Http11 => HttpVersion::Http11,
                },
                method: head.method,
                target: head.target,
                host: head.host,
                hosts: head.hosts,
                fields: &head.fields,
                transport: &transport,
                length: length_of_body,
                is_websocket,
                is_admin: self.accepted.is_admin,
            },
        );
        self.down.version = head.version;
        self.down.persists = transport.persists(head.version);
        self.reader.consume(length);
        Ok((plan, length_of_body))
    }

    async fn exchange(&mut self, plan: Plan, length: Length) -> Next {
        let Self {
            worker,
            reader,
            down,
            timers,
            ..
        } = self;
        // Said before the answer is written, since it is in the answer.
        down.persists &= !worker.drain.has_begun();
        let mut request = UnderWay::new(worker, plan);
        let UnderWay { plan, progress, .. } = &mut request;
        let mut body = Body::new(reader, length, worker.settings.limits.head_bytes);
        let (end, ending) = carry_out(worker, plan, &mut body, down, timers, progress).await;
        let is_read = body.has_ended();
        if let End::Tunnel(upstream) = end {
            return Next::Tunnel(Box::new(request), upstream);
        }
        request.ending = ending;
        drop(request);
        match end {
            End::Complete if is_read && down.persists => Next::Again,
            // The client learns only from this answer that the connection ends, and may have sent more, RFC 9112 §9.6.
            End::Complete => Next::Linger,
            End::Broken if down.ends_with_connection => {
                // An orderly end would say that this was all.
                self.accepted.io.reset_at_end();
                Next::Close
            }
            End::Broken | End::Tunnel(_) => Next::Close,
        }
    }

    /// Answers what is no request.
    async fn refuse(&mut self, refusal: Refusal) -> Next {
        let limits = &self.worker.settings.limits;
        let bytes = self.reader.bytes();
        let length = head::End::default().find(bytes).ok().flatten();
        let head = bytes.get(..length.unwrap_or_default()).unwrap_or_default();
        // If the head can be read after all, it says how the client came.
        let head = RequestHead::read(head, limits.fields).ok();
        let name = self.accepted.io.server_name();
        let host = match &head {
            Some(head) => head.host,
            None => name.as_deref().map(str::as_bytes),
        };
        let unplanned = Unplanned {
            peer: self.accepted.peer,
            tls: self.accepted.tls,
            version: Some(HttpVersion::Http11),
            host,
            fields: head.as_ref().map_or(&[], |head| &head.fields),
            to_head: bytes.starts_with(b"HEAD "),
        };
        self.down.writer.head = refuse(&self.worker, &unplanned, refusal);
        self.down.writer.begin(Length::Empty);
        let flush = self.timer.within(LINGER, self.down.writer.flush()).await;
        match flush {
            Ok(Ok(())) => Next::Linger,
            _ => Next::Close,
        }
    }

    /// Says within TLS that this is the end: one that the network made up must look different.
    async fn end(&mut self) {
        if self.accepted.tls {
            let end = self.down.writer.end_writing();
            let _ = self.timer.within(LINGER, end).await;
        }
    }

    /// Waits until the client has read its answer: closing a connection with unread bytes would reset it, and the answer
    /// might be lost with it.
    async fn linger(&mut self) {
        let mut rest = Body::new(&mut self.reader, Length::UntilEnd, 0);
        let read = async {
            if self.down.writer.end_writing().await.is_ok() {
                while let Ok(Some(_)) = rest.next().await {}
            }
        };
        let _ = self.timer.within(LINGER, read).await;
    }

    /// What remains of the connection once both sides have switched to WebSocket.
    fn into_tunnel(
        self,
        mut request: Box<UnderWay>,
        upstream: Connection,
    ) -> impl Future<Output = ()> {
        let Self {
            worker,
            accepted,
            mut reader,
            mut down,
            ..
        } = self;
        let Connection {
            reader: mut app_reader,
            writer: mut app_writer,
            ..
        } = upstream;
        down.writer.begin(Length::UntilEnd);
        app_writer.begin(Length::UntilEnd);
        async move {
            let client = (Body::new(&mut reader, Length::UntilEnd, 0), down.writer);
            let from_app = Body::new(&mut app_reader, Length::UntilEnd, 0);
            let app = (from_app, app_writer);
            request.ending = tunnel::connect(&worker, client, app, &request.progress).await;
            drop(request);
            drop(accepted);
        }
    }
}

fn refusal(error: HeadError) -> Refusal {
    match error {
        HeadError::BareLineFeed => bad("A line of the request ends without a carriage return."),
        HeadError::Field => bad("A header line of the request is malformed."),
        HeadError::Folded => bad("A header line of the request is folded."),
        HeadError::StartLine => bad("The first line of the request is malformed."),
        HeadError::TooLarge => (
            431,
            "The head of the request is too large.",
            RejectReason::HeadTooLarge,
        ),
        HeadError::TooManyFields => (
            431,
            "The request has too many header lines.",
            RejectReason::HeadTooLarge,
        ),
        HeadError::Version => (
            505,
            "This version of HTTP is not spoken here.",
            RejectReason::BadHead,
        ),
    }
}

fn bad(text: &'static str) -> Refusal {
    (400, text, RejectReason::BadHead)
}

/// A client's connection, as answers are written to it.
pub(crate) struct Http1Downstream {
    writer: Writer,
    version: Version,
    /// Whether the connection goes on after the answer.
    persists: bool,
    /// Whether the end of the connection is what ends the answer's body, RFC 9112 §6.3.
    ends_with_connection: bool,
}

impl Downstream for Http1Downstream {
    fn begin(&mut self, answer: &AnswerHead<'_>) {
        let (length, chunked) = match (answer.length, self.version) {
            (Length::Chunked | Length::UntilEnd, Version::Http11) => (Length::Chunked, true),
            (Length::Chunked | Length::UntilEnd, Version::Http10) => (Length::UntilEnd, false),
            (length, _) => (length, false),
        };
        self.ends_with_connection = length == Length::UntilEnd;
        self.persists &= !self.ends_with_connection && !answer.is_early;
        let head = &mut self.writer.head;
        put_head(head, answer);
        match length {
            Length::Exact(length) => {
                put(
                    head,
                    &[b"content-length: ", length.to_string().as_bytes(), b"\r\n"],
                );
            }
            _ if chunked => put(head, &[b"transfer-encoding: chunked\r\n"]),
            _ => {}
        }
        if answer.status == 101 {
            put(head, &[b"connection: Upgrade\r\nupgrade: websocket\r\n"]);
        } else if !self.persists {
            put(head, &[b"connection: close\r\n"]);
        } else if self.version == Version::Http10 {
            put(head, &[b"connection: keep-alive\r\n"]);
        }
        put(head, &[b"\r\n"]);
        self.writer.begin(length);
    }

    fn take_back(&mut self) -> bool {
        if self.writer.has_begun() {
            return false;
        }
        self.writer.head.clear();
        self.ends_with_connection = false;
        true
    }

    async fn interim(&mut self, answer: &AnswerHead<'_>) -> std::io::Result<()> {
        // HTTP/1.0 has none, RFC 9110 §15.2.
        if self.version == Version::Http10 {
            return Ok(());
        }
        put_head(&mut self.writer.head, answer);
        put(&mut self.writer.head, &[b"\r\n"]);
        self.writer.flush().await
    }
}

impl Sink for Http1Downstream {
    async fn data(&mut self, data: &[u8]) -> std::io::Result<()> {
        self.writer.data(data).await
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush().await
    }

    async fn end(&mut self, trailers: &[u8]) -> std::io::Result<()> {
        self.writer.end(trailers).await
    }
}

pub(super) fn put_head(head: &mut Vec<u8>, answer: &AnswerHead<'_>) {
    let status = answer.status.to_string();
    put(
        head,
        &[
            b"HTTP/1.1 ",
            status.as_bytes(),
            b" ",
            answer.reason,
            b"\r\n",
        ],
    );
    answer.emit(|name, value| put(head, &[name, b": ", value, b"\r\n"]));
    if let Some(declared) = answer.declared {
        put(head, &[b"content-length: ", declared, b"\r\n"]);
    }
}

fn put(head: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        head.extend_from_slice(part);
    }
}

/// What a connection over HTTP/2 begins with, RFC 9113 §3.4; here up to where HTTP/1.1 would see an empty line.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// How long an idle connection is kept once the worker is stopping.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
