//! Serves a client's HTTP/1 connection, one request after another.
//!
//! A request that cannot be parsed gets an error response and ends the connection, because the start of the next request is
//! unknown.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::http::body::{Sink, Source};
use crate::http::framing::{Framing, Length};
use crate::http::head::{HeadError, HeadScanner, RequestHead, Version};
use crate::http::reader::{Body, ReadError, Reader};
use crate::http::writer::Writer;
use crate::net::stream::Selected;
use crate::net::timer::{Elapsed, Timer};
use crate::observe::HttpVersion;
use crate::proxy::decide::decide;
use crate::proxy::exchange::carry_out;
use crate::proxy::failure::Rejection;
use crate::proxy::in_flight::{InFlight, record_unparsed};
use crate::proxy::outcome::Outcome;
use crate::proxy::request::{Incoming, Plan, Timers};
use crate::proxy::tunnel;
use crate::server::connection::Accepted;
use crate::server::http1_response::Http1Downstream;
use crate::server::http2;
use crate::server::reject::{MalformedRequest, reject};
use crate::upstream::pool::Connection;
use crate::worker::Worker;

/// Serves a connection until it ends. One that begins with the HTTP/2 preface is passed on.
pub(super) async fn serve(worker: &Rc<Worker>, accepted: Accepted) {
    let reader = Reader::new(Rc::clone(&accepted.stream), Rc::clone(&worker.buffers));
    let mut connection = Http1Connection {
        worker: Rc::clone(worker),
        down: Http1Downstream::new(Writer::new(Rc::clone(&accepted.stream))),
        reader,
        accepted,
        timer: Timer::default(),
        timers: Timers::default(),
    };
    // One registration for all requests.
    let mut drain = pin!(worker.drain.wait());
    let mut previous = None;
    loop {
        match connection.serve_next(previous, drain.as_mut()).await {
            Next::Request { previous: ended } => previous = Some(ended),
            Next::Close => return,
            Next::Shutdown => return connection.shutdown().await,
            Next::Linger => return connection.linger().await,
            Next::Http2 => {
                let Http1Connection {
                    mut reader,
                    accepted,
                    ..
                } = connection;
                return http2::serve(worker, accepted, reader.take_rest()).await;
            }
            Next::Tunnel(request, upstream) => {
                // A new task, because a tunnel stays open for a long time and needs less memory than this task.
                tokio::task::spawn_local(connection.into_tunnel(request, *upstream));
                return;
            }
        }
    }
}

/// What a connection does next.
enum Next {
    /// Serve another request. `previous`: when the last one has ended.
    Request {
        previous: Instant,
    },
    Close,
    /// Close an idle connection cleanly.
    Shutdown,
    /// Close after the client has read its response, discarding what it still sends.
    Linger,
    Http2,
    Tunnel(Box<InFlight>, Box<Connection>),
}

struct Http1Connection {
    worker: Rc<Worker>,
    accepted: Accepted,
    reader: Reader,
    down: Http1Downstream,
    timer: Timer,
    timers: Timers,
}

impl Http1Connection {
    /// Serves a request. `previous`: when the one before it has ended; `None` for the first.
    async fn serve_next(
        &mut self,
        previous: Option<Instant>,
        drain: Pin<&mut impl Future<Output = ()>>,
    ) -> Next {
        let is_first = previous.is_none();
        if !self.wait_for_request(previous, drain).await {
            return Next::Shutdown;
        }
        self.worker = self.worker.current();
        let limits = &self.worker.settings.limits;
        let head = self.reader.request_head(limits.head_bytes);
        let head = self.timer.within(limits.head_read, head).await;
        let selected = self.accepted.stream.selected();
        if is_first && selected == Selected::Http2 && !self.has_preface() {
            return self.end_without_preface();
        }
        let length = match head {
            Ok(Ok(0)) => return Next::Shutdown,
            Ok(Ok(length)) => length,
            Ok(Err(ReadError::Head(error))) => return self.reject(error.into()).await,
            Ok(Err(ReadError::Ended | ReadError::Io(_))) => return Next::Close,
            Err(Elapsed) => return self.reject(Rejection::head_timeout()).await,
        };
        if is_first && self.has_preface() {
            return match selected {
                // The selection is binding, RFC 7301 §3.2.
                Selected::Http1 => self.reject(Rejection::wrong_protocol()).await,
                Selected::Http2 | Selected::Nothing => Next::Http2,
            };
        }
        match self.read_request(length) {
            Ok((plan, length)) => self.carry_out(plan, length).await,
            Err(rejection) => self.reject(rejection).await,
        }
    }

    fn has_preface(&self) -> bool {
        self.reader.bytes().starts_with(HTTP2_PREFACE)
    }

    /// Ends a connection for which HTTP/2 was selected but which does not begin with its preface, RFC 9113 §3.4. Nothing is
    /// sent, because the client would not understand HTTP/1.1 if it kept to the selection.
    fn end_without_preface(&self) -> Next {
        // A client that has sent only a part of the preface has made no mistake but left.
        if !HTTP2_PREFACE.starts_with(self.reader.bytes()) {
            let Rejection { reason, status, .. } = Rejection::wrong_protocol();
            let (peer, version) = (self.accepted.peer, Some(HttpVersion::Http2));
            record_unparsed(&self.worker, "", peer, version, status, reason);
        }
        Next::Shutdown
    }

    /// Waits for the first byte of a request. Returns false if the connection must be closed.
    async fn wait_for_request(
        &mut self,
        previous: Option<Instant>,
        drain: Pin<&mut impl Future<Output = ()>>,
    ) -> bool {
        self.reader.skip_empty_lines();
        if !self.reader.bytes().is_empty() {
            return true;
        }
        let limits = &self.worker.settings.limits;
        if !self.worker.drain.is_raised() {
            let more = self.reader.has_more();
            let more = match previous {
                None => self.timer.within(limits.head_read, more),
                Some(ended) => self.timer.within_since(ended, limits.keep_alive, more),
            };
            let more = tokio::select! {
                biased;
                more = more => Some(matches!(more, Ok(Ok(true)))),
                () = drain => None,
            };
            if let Some(more) = more {
                return more;
            }
        }
        // A request that is on its way is still served, and its response closes the connection.
        let more = self.timer.within(DRAIN_PATIENCE, self.reader.has_more());
        matches!(more.await, Ok(Ok(true)))
    }

    /// Reads the head at the front, which has `length` bytes, and decides how to handle the request. Also returns the length
    /// of its body.
    fn read_request(&mut self, length: usize) -> Result<(Box<Plan>, Length), Rejection> {
        let limits = &self.worker.settings.limits;
        let bytes = self.reader.bytes().get(..length).unwrap_or_default();
        if bytes.len() > limits.head_bytes {
            return Err(HeadError::TooLarge.into());
        }
        let head = RequestHead::read(bytes, limits.fields)?;
        let framing = Framing::of(&head.fields);
        let body_length = framing.request_length(head.version)?;
        let is_websocket =
            head.version == Version::Http11 && head.method == b"GET" && framing.is_websocket();
        let request = Incoming {
            peer: self.accepted.peer,
            identity: self.accepted.identity.as_deref(),
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
            framing: &framing,
            length: body_length,
            is_websocket,
            is_admin: self.accepted.is_admin,
        };
        let plan = decide(&self.worker, &request);
        self.down.version = head.version;
        self.down.persists = framing.persists(head.version);
        self.reader.consume(length);
        Ok((plan, body_length))
    }

    async fn carry_out(&mut self, plan: Box<Plan>, length: Length) -> Next {
        let Self {
            worker,
            reader,
            down,
            timers,
            ..
        } = self;
        // Before the response is written, because it announces that the connection will be closed.
        down.persists &= !worker.drain.is_raised();
        let mut request = InFlight::new(worker, plan);
        let mut body = Body::new(reader, length, worker.settings.limits.head_bytes);
        let outcome = carry_out(&request, &mut body, down, timers).await;
        let is_read = body.has_ended();
        match outcome {
            Outcome::Tunnel(upstream) => return Next::Tunnel(Box::new(request), upstream),
            Outcome::Complete { ending, at } => {
                (request.ending, request.ended) = (ending, Some(at));
            }
            Outcome::Incomplete(ending) => request.ending = ending,
        }
        let ended = request.ended;
        drop(request);
        let Some(ended) = ended else {
            if down.ends_with_connection {
                // An orderly end would mark an incomplete response as complete.
                self.accepted.stream.reset_on_close();
            }
            return Next::Close;
        };
        if is_read && down.persists {
            Next::Request { previous: ended }
        } else {
            // The client learns only from this response that the connection ends, and may have sent more, RFC 9112 §9.6.
            Next::Linger
        }
    }

    /// Responds to a request that could not be parsed.
    async fn reject(&mut self, rejection: Rejection) -> Next {
        let limits = &self.worker.settings.limits;
        let bytes = self.reader.bytes();
        let length = HeadScanner::default().find_end(bytes).ok().flatten();
        let head = bytes.get(..length.unwrap_or_default()).unwrap_or_default();
        // The head may be readable although the request was rejected, such as for its framing.
        let head = RequestHead::read(head, limits.fields).ok();
        let server_name = self.accepted.stream.server_name();
        let host = match &head {
            Some(head) => head.host,
            None => server_name.as_deref().map(str::as_bytes),
        };
        let request = MalformedRequest {
            peer: self.accepted.peer,
            tls: self.accepted.tls,
            version: Some(HttpVersion::Http11),
            host,
            fields: head.as_ref().map_or(&[], |head| &head.fields),
            is_head: bytes.starts_with(b"HEAD "),
        };
        self.down.writer.head = reject(&self.worker, &request, rejection);
        self.down.writer.begin(Length::Empty);
        let flush = self.timer.within(LINGER, self.down.writer.flush()).await;
        match flush {
            Ok(Ok(())) => Next::Linger,
            _ => Next::Close,
        }
    }

    /// Closes TLS with `close_notify`, so that the client can distinguish the end from a truncation by an attacker.
    async fn shutdown(&mut self) {
        if self.accepted.tls {
            let shutdown = self.down.writer.shutdown();
            let _ = self.timer.within(LINGER, shutdown).await;
        }
    }

    /// Waits until the client has read its response. Closing a connection with unread bytes would reset it, and the response
    /// might be lost.
    async fn linger(&mut self) {
        let mut rest = Body::new(&mut self.reader, Length::UntilEnd, 0);
        let discard = async {
            if self.down.writer.shutdown().await.is_ok() {
                let mut discarded = 0;
                while discarded < MAX_DISCARDED
                    && let Ok(Some(chunk)) = rest.next().await
                {
                    discarded += chunk.len();
                }
            }
        };
        let _ = self.timer.within(LINGER, discard).await;
    }

    /// Keeps only what a tunnel needs.
    fn into_tunnel(
        self,
        mut request: Box<InFlight>,
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

/// The start of an HTTP/2 connection, RFC 9113 §3.4, up to where HTTP/1.1 would see an empty line.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// How long an idle connection is kept once the worker is stopping.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// How long a connection is kept after its last response, so that the response arrives before the connection is reset.
const LINGER: Duration = Duration::from_secs(2);

/// How many bytes are discarded in that time: enough for what a client has sent before it could read the response. A client
/// that sends more gets a reset, and so learns that its body is not wanted.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;
