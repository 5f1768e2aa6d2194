//! What does a connection over HTTP/2 carry?
//!
//! Many streams at once, each served by a task of its own. The framing is the `h2` crate's.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::buffer::Buffer;
use crate::net::stream::Io;
use crate::net::timer::Timer;
use crate::server::http1::Accepted;
use crate::server::http2_stream;
use crate::worker::Worker;

/// Serves a connection until it ends. `early` was read before it was known what it is.
pub(crate) async fn serve(worker: &Rc<Worker>, accepted: Accepted, early: Option<Buffer>) {
    let limits = &worker.settings.limits;
    let mut timer = Timer::default();
    let io = Transport {
        early,
        io: Rc::clone(&accepted.io),
    };
    // Twice what is allowed: up to there a head that is too large is answered with a text, and only beyond with a bare
    // status, which is the h2 crate's.
    let most = u32::try_from(limits.head_bytes.saturating_mul(2)).unwrap_or(u32::MAX);
    let handshake = h2::server::Builder::new()
        .enable_connect_protocol()
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_window_size(STREAM_WINDOW)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(most)
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
            // Nothing new for a while; whoever has no stream open either is idle.
            Err(_) if Rc::strong_count(&accepted) > 1 || connection.has_streams() => {}
            Err(_) if is_ending => {
                // A client that lives has answered the last ping by now, and the connection would have ended with it.
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

/// A connection with what was read from it before.
struct Transport {
    early: Option<Buffer>,
    io: Rc<Io>,
}

impl AsyncRead for Transport {
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
        this.io.poll_read_buf(context, into)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_write(context, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_write(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_end_writing(context)
    }
}

/// Bytes that a client may send ahead on a stream, and on all of them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Streams that a client may have open.
const MOST_STREAMS: u32 = 128;

/// Bytes of an answer that wait for the client to take them, on each stream.
const SEND_BUFFER: usize = 128 * 1024;

/// How long a connection without streams is kept once it has been told that it ends.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
