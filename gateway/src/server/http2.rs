//! Serves a client's HTTP/2 connection: many streams at once, each by its own task.
//!
//! The framing is done by the `h2` crate.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::buffer::Buffer;
use crate::net::stream::Stream;
use crate::net::timer::Timer;
use crate::server::connection::Accepted;
use crate::server::http2_stream;
use crate::worker::Worker;

/// Serves a connection until it ends. `early`: bytes that were read before the version was known.
pub(super) async fn serve(worker: &Rc<Worker>, accepted: Accepted, early: Option<Buffer>) {
    let limits = &worker.settings.limits;
    let mut timer = Timer::default();
    let io = IoAdapter {
        early,
        stream: Rc::clone(&accepted.stream),
    };
    // Twice the limit, because the h2 crate rejects a head above it with nothing but a status. Between the two limits, the
    // response has a text that states the reason.
    let max_head = u32::try_from(limits.head_bytes.saturating_mul(2)).unwrap_or(u32::MAX);
    let handshake = h2::server::Builder::new()
        .enable_connect_protocol()
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_window_size(STREAM_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(max_head)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(io);
    let Ok(Ok(mut connection)) = timer.within(limits.head_read, handshake).await else {
        return;
    };
    let accepted = Rc::new(accepted);
    let mut drain = pin!(worker.drain.wait());
    let mut is_ending = false;
    loop {
        let limit = if is_ending {
            DRAIN_PATIENCE
        } else {
            limits.keep_alive
        };
        let next = timer.within(limit, connection.accept());
        let next = tokio::select! {
            next = next => next,
            () = &mut drain, if !is_ending => {
                is_ending = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        match next {
            Ok(Some(Ok((request, respond)))) => {
                let (worker, accepted) = (Rc::clone(worker), Rc::clone(&accepted));
                tokio::task::spawn_local(async move {
                    http2_stream::serve(&worker, &accepted, request, respond).await;
                });
            }
            Ok(None | Some(Err(_))) => return,
            // No new stream for a while, but some are open, so the connection is not idle.
            Err(_) if Rc::strong_count(&accepted) > 1 || connection.has_streams() => {}
            Err(_) if is_ending => {
                // A live client has acknowledged the last ping by now, and that would have ended the connection.
                connection.abrupt_shutdown(Reason::NO_ERROR);
                let _ = timer.within(DRAIN_PATIENCE, connection.accept()).await;
                return;
            }
            Err(_) => {
                is_ending = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Adapts a connection to tokio's traits, and returns first the bytes that were read before.
struct IoAdapter {
    early: Option<Buffer>,
    stream: Rc<Stream>,
}

impl AsyncRead for IoAdapter {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(early) = &mut this.early {
            let count = early.len().min(into.remaining());
            into.put_slice(early.get(..count).unwrap_or_default());
            early.consume(count);
            if early.is_empty() {
                this.early = None;
            }
            return Poll::Ready(Ok(()));
        }
        this.stream.poll_read_buf(context, into)
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

/// Bytes of a response that are buffered for a slow client, on each stream.
const SEND_BUFFER: usize = 128 * 1024;

/// How long a connection without streams is kept after GOAWAY.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
