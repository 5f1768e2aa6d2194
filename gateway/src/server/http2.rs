//! Serves a client's HTTP/2 connection: many streams at once, each by its own task.
//!
//! The framing is done by the `h2` crate, except that it gets substitutes in place of header blocks, see
//! [`http2_frames`](crate::http::http2_frames).

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::http2_frames::{ConnectionError, RequestFrames};
use crate::net::buffer::Buffer;
use crate::net::stream::Stream;
use crate::net::timer::Timer;
use crate::observe::HttpVersion;
use crate::proxy::failure::Rejection;
use crate::proxy::in_flight::record_unparsed;
use crate::server::connection::Accepted;
use crate::server::http2_accept::{Acceptor, Next};
use crate::server::http2_stream;
use crate::worker::Worker;

/// Serves a connection until it ends. `early`: bytes that were read before the version was known.
pub(super) async fn serve(worker: &Rc<Worker>, accepted: Accepted, early: Option<Buffer>) {
    let limits = &worker.settings.limits;
    let mut timer = Timer::default();
    let max_head = limits.head_bytes;
    let frames = Rc::new(RefCell::new(RequestFrames::new(max_head)));
    let io = IoAdapter::new(early, Rc::clone(&accepted.stream), Rc::clone(&frames));
    let handshake = h2::server::Builder::new()
        .enable_connect_protocol()
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_window_size(STREAM_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(max_head).unwrap_or(u32::MAX))
        .data_frame_budget(DATA_FRAME_BUDGET)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(io);
    let Ok(Ok(mut connection)) = timer.within(limits.head_read, handshake).await else {
        return;
    };
    let accepted = Rc::new(accepted);
    let mut drain = pin!(worker.drain.wait());
    let mut is_ending = false;
    let mut acceptor = Acceptor::new(frames, limits.head_read);
    loop {
        let limit = if is_ending {
            DRAIN_PATIENCE
        } else {
            limits.keep_alive
        };
        let next = std::future::poll_fn(|context| acceptor.poll_next(&mut connection, context));
        let next = timer.within(limit, next);
        let next = tokio::select! {
            next = next => next,
            () = &mut drain, if !is_ending => {
                is_ending = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        match next {
            Ok(Next::Stream(lines, body, respond)) => {
                let (worker, accepted) = (worker.current(), Rc::clone(&accepted));
                tokio::task::spawn_local(async move {
                    // On the heap at once, because tokio moves a task several times before and after it runs.
                    let stream = http2_stream::serve(&worker, &accepted, lines, body, respond);
                    Box::pin(stream).await;
                });
            }
            Ok(Next::End) => return,
            Ok(Next::Error(error)) => {
                tracing::debug!(?error, "an HTTP/2 connection is ended");
                let reason = match error {
                    ConnectionError::Compression => Reason::COMPRESSION_ERROR,
                    ConnectionError::Excess => Reason::ENHANCE_YOUR_CALM,
                    ConnectionError::FrameSize => Reason::FRAME_SIZE_ERROR,
                    ConnectionError::Protocol => Reason::PROTOCOL_ERROR,
                };
                return abort(connection, reason, &mut timer).await;
            }
            // Nothing else may be sent before the rest of the block, RFC 9113 §4.3, so no stream can go on.
            Ok(Next::HeadTimeout) => {
                let Rejection { reason, status, .. } = Rejection::head_timeout();
                let version = Some(HttpVersion::Http2);
                record_unparsed(worker, "", accepted.peer, version, status, reason);
                return abort(connection, Reason::ENHANCE_YOUR_CALM, &mut timer).await;
            }
            // No new stream for a while, but some are open, so the connection is not idle.
            Err(_) if Rc::strong_count(&accepted) > 1 || connection.has_streams() => {}
            Err(_) if is_ending => {
                // A live client has acknowledged the last ping by now, and that would have ended the connection.
                return abort(connection, Reason::NO_ERROR, &mut timer).await;
            }
            Err(_) => {
                is_ending = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Ends a connection and its streams.
async fn abort(mut connection: Connection<IoAdapter, Bytes>, reason: Reason, timer: &mut Timer) {
    connection.abrupt_shutdown(reason);
    let _ = timer.within(DRAIN_PATIENCE, connection.accept()).await;
}

/// Adapts a connection to tokio's traits, and returns first the bytes that were read before.
pub(super) struct IoAdapter {
    early: Option<Buffer>,
    stream: Rc<Stream>,
    frames: Rc<RefCell<RequestFrames>>,
}

impl IoAdapter {
    /// `early`: bytes that were read before. `frames`: what the connection's frames pass through.
    pub(super) fn new(
        early: Option<Buffer>,
        stream: Rc<Stream>,
        frames: Rc<RefCell<RequestFrames>>,
    ) -> Self {
        Self {
            early,
            stream,
            frames,
        }
    }

    /// Reads the next bytes as the client has sent them.
    fn poll_read_raw(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(early) = &mut self.early else {
            return self.stream.poll_read_buf(context, into);
        };
        let count = early.len().min(into.remaining());
        into.put_slice(early.get(..count).unwrap_or_default());
        early.consume(count);
        if early.is_empty() {
            self.early = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for IoAdapter {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = this.poll_read_frames(context, into);
        this.frames.borrow_mut().set_read(result.is_pending());
        result
    }
}

impl IoAdapter {
    /// Reads frames for the h2 crate.
    fn poll_read_frames(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut frames = self.frames.borrow_mut();
            if frames.take_overflow(into.remaining(), |bytes| into.put_slice(bytes)) {
                return Poll::Ready(Ok(()));
            }
            if frames.must_pause() {
                // The requests that were passed on are taken first. After an error nothing is read any more.
                if frames.error().is_none() {
                    context.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            drop(frames);
            let start = into.filled().len();
            ready!(self.poll_read_raw(context, into))?;
            let Some(read) = into
                .filled_mut()
                .get_mut(start..)
                .filter(|read| !read.is_empty())
            else {
                return Poll::Ready(Ok(()));
            };
            let kept = self.frames.borrow_mut().process(read);
            into.set_filled(start + kept);
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for IoAdapter {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write(context, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(context)
    }
}

/// Flow-control windows in bytes, RFC 9113 §5.2: how much a client may send ahead on a stream, and on the connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Maximum number of concurrent streams of a connection.
const MAX_STREAMS: u32 = 128;

/// How much memory the DATA frames that were received but not read may take in addition to their payload, on all streams:
/// some 16 000 frames with a few bytes each. A client of a busy app may send so many at once, and a connection can hold about
/// as much in the heads of its streams.
const DATA_FRAME_BUDGET: usize = 4 * 1024 * 1024;

/// Bytes of a response that are buffered for a slow client, on each stream.
const SEND_BUFFER: usize = 128 * 1024;

/// How long a connection without streams is kept after GOAWAY.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
