//! Passes bytes both ways after both sides have switched to WebSocket.
//!
//! Frames, close codes, compression and pings are forwarded unchanged; only the first close code is read, for logs and
//! metrics. When one side ends, the other side is closed too and has a few seconds to end. When the gateway stops, it sends
//! the browser a close frame between two frames of the app.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::http::body::{Chunk, Sink, Source};
use crate::http::websocket::{CLOSE_RESTART, Frames, SERVICE_RESTART};
use crate::net::seldom::seldom;
use crate::observe::websocket_close::{ClosedBy, NO_CLOSE_FRAME};
use crate::observe::{Ending, Phase};
use crate::proxy::request::Progress;
use crate::worker::{TunnelGuard, Worker};

/// Connects two sides until both have ended, and returns how they did.
pub(crate) async fn connect(
    worker: &Worker,
    client: (impl Source, impl Sink),
    app: (impl Source, impl Sink),
    progress: &Progress,
) -> Ending {
    let tunnels = &worker.tunnels;
    let guard = tunnels.open(&worker.observer);
    progress.phase.set(Phase::Tunnel);
    let (from_client, to_client) = client;
    let (from_app, to_app) = app;
    let mut up = pin!(async {
        let mut direction = Direction {
            from: from_client,
            to: to_app,
            sender: ClosedBy::Client,
            receiver: ClosedBy::Upstream,
            guard: &guard,
            passed: &progress.received,
            frames: Frames::default(),
            piece: None,
        };
        let stopped = poll_fn(|context| direction.poll(context, false)).await;
        direction.end(stopped).await;
    });
    let mut down = pin!(async {
        let mut direction = Direction {
            from: from_app,
            to: to_client,
            sender: ClosedBy::Upstream,
            receiver: ClosedBy::Client,
            guard: &guard,
            passed: &progress.sent,
            frames: Frames::default(),
            piece: None,
        };
        let mut closing = pin!(tunnels.must_close());
        let mut must_close = false;
        let stopped = poll_fn(|context| {
            must_close = must_close || closing.as_mut().poll(context).is_ready();
            direction.poll(context, must_close)
        });
        let stopped = stopped.await;
        direction.end(stopped).await;
    });
    let both = async {
        // Each first in turn: a side that never pauses would otherwise use up what tokio lets a task do at once.
        let mut is_up_first = false;
        let first = poll_fn(|context| {
            is_up_first = !is_up_first;
            for is_up in [is_up_first, !is_up_first] {
                let (poll, side) = if is_up {
                    (up.as_mut().poll(context), Side::Client)
                } else {
                    (down.as_mut().poll(context), Side::App)
                };
                if poll.is_ready() {
                    return Poll::Ready(side);
                }
            }
            Poll::Pending
        });
        let _ = match first.await {
            Side::Client => timeout(HALF_CLOSED_TIMEOUT, down).await,
            Side::App => timeout(HALF_CLOSED_TIMEOUT, up).await,
        };
    };
    // In a fixed order, because drawing a random one costs more than a branch needs.
    tokio::select! {
        biased;
        () = both => {}
        () = wait_for_silence(progress, worker.settings.limits.websocket_idle) => {
            guard.close(ClosedBy::Limit, NO_CLOSE_FRAME);
        }
    }
    match guard.closed_by() {
        Some(ClosedBy::Client) => Ending::ClosedByClient,
        Some(ClosedBy::Upstream) => Ending::ClosedByUpstream,
        Some(ClosedBy::Limit) => Ending::ClientTimeout,
        Some(ClosedBy::Drain) | None => Ending::Drained,
    }
}

/// Passes the bytes of one side on to the other.
struct Direction<'a, From, To> {
    from: From,
    to: To,
    /// Who is recorded to have closed the tunnel if the bytes end.
    sender: ClosedBy,
    /// Who is recorded to have closed the tunnel if they cannot be written.
    receiver: ClosedBy,
    guard: &'a TunnelGuard<'a>,
    /// Counts the bytes.
    passed: &'a Cell<u64>,
    frames: Frames,
    /// What was read and not passed on yet.
    piece: Option<Piece>,
}

/// Bytes of a chunk to pass on.
struct Piece {
    chunk: Chunk,
    start: usize,
    end: usize,
}

/// Why a direction passes no more bytes.
enum Stopped {
    /// The sender has ended, or its connection broke.
    Ended,
    /// The connection to the receiver broke.
    Broken,
    /// It must close, and only whole frames have passed.
    AtBoundary,
}

impl<From: Source, To: Sink> Direction<'_, From, To> {
    /// Passes bytes on until a side ends or, if `must_close`, a frame. Written without `async`, whose layers cost as much for
    /// a small message as all else here.
    fn poll(&mut self, context: &mut Context<'_>, must_close: bool) -> Poll<Stopped> {
        loop {
            if let Some(piece) = &mut self.piece {
                while let Some(rest) = piece.rest() {
                    match ready!(self.to.poll_write(context, rest)) {
                        Ok(0) | Err(_) => return Poll::Ready(Stopped::Broken),
                        Ok(count) => piece.start += count,
                    }
                }
                if ready!(self.to.poll_flush(context)).is_err() {
                    return Poll::Ready(Stopped::Broken);
                }
                self.piece = None;
            }
            if must_close && self.frames.is_at_boundary() {
                return Poll::Ready(Stopped::AtBoundary);
            }
            let Ok(Some(chunk)) = ready!(self.from.poll_next(context)) else {
                return Poll::Ready(Stopped::Ended);
            };
            // A busy app does not pause between its frames, so look for a boundary within what it has sent.
            let end = if must_close {
                self.frames.pass_frame(&chunk).unwrap_or(chunk.len())
            } else {
                self.frames.pass(&chunk);
                chunk.len()
            };
            if let Some(code) = self.frames.close_code() {
                self.guard.close(self.sender, code);
            }
            self.passed.set(self.passed.get() + end as u64);
            self.piece = Some(Piece {
                chunk,
                start: 0,
                end,
            });
        }
    }

    /// Tells the receiver that no more bytes follow.
    async fn end(&mut self, stopped: Stopped) {
        match stopped {
            Stopped::Ended => self.guard.close(self.sender, NO_CLOSE_FRAME),
            Stopped::Broken => return self.guard.close(self.receiver, NO_CLOSE_FRAME),
            Stopped::AtBoundary => {
                self.guard.close(ClosedBy::Drain, SERVICE_RESTART);
                let _ = self.to.data(&CLOSE_RESTART).await;
            }
        }
        let _ = self.to.end(&[]).await;
    }
}

impl Piece {
    /// Returns the bytes that have not been written; `None` if there are none.
    fn rest(&self) -> Option<&[u8]> {
        let rest = self.chunk.get(self.start..self.end)?;
        (!rest.is_empty()).then_some(rest)
    }
}

/// The side whose bytes have ended.
enum Side {
    Client,
    App,
}

/// Waits until nothing has moved for the time `limit`; forever if it is zero.
async fn wait_for_silence(progress: &Progress, limit: Duration) {
    if limit.is_zero() {
        std::future::pending::<()>().await;
    }
    let moved = || (progress.received.get(), progress.sent.get());
    loop {
        let before = moved();
        seldom(sleep(limit), |sleep| sleep.is_elapsed()).await;
        if moved() == before {
            return;
        }
    }
}

/// How long the second side of a half-closed tunnel may take to end.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(10);
