//! Passes bytes both ways after both sides have switched to WebSocket.
//!
//! Frames, close codes, compression and pings are forwarded unchanged; only the first close code is read, for logs and
//! metrics. When one side ends, the other side is
//! closed too and has a few seconds to end. When the gateway stops, it sends the browser a close frame between two frames
//! of the app.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::http::body::{Sink, Source};
use crate::http::websocket::{CLOSE_RESTART, Frames, SERVICE_RESTART};
use crate::net::seldom::seldom;
use crate::observe::websocket_close::{ClosedBy, NO_CLOSE_FRAME};
use crate::observe::{Ending, Phase};
use crate::proxy::request::Progress;
use crate::worker::Worker;

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
    let (mut from_client, mut to_client) = client;
    let (mut from_app, mut to_app) = app;
    let mut up = pin!(async {
        let mut frames = Frames::default();
        while let Ok(Some(piece)) = from_client.next().await {
            frames.pass(&piece);
            if let Some(code) = frames.close_code() {
                guard.close(ClosedBy::Client, code);
            }
            let received = progress.received.get() + piece.len() as u64;
            progress.received.set(received);
            if to_app.data(&piece).await.is_err() {
                guard.close(ClosedBy::Upstream, NO_CLOSE_FRAME);
                return;
            }
        }
        guard.close(ClosedBy::Client, NO_CLOSE_FRAME);
        let _ = to_app.end(&[]).await;
    });
    let mut down = pin!(async {
        let mut frames = Frames::default();
        let mut closing = pin!(tunnels.must_close());
        let mut must_close = false;
        loop {
            if must_close && frames.is_at_boundary() {
                guard.close(ClosedBy::Drain, SERVICE_RESTART);
                let _ = to_client.data(&CLOSE_RESTART).await;
                break;
            }
            let piece = tokio::select! {
                biased;
                () = &mut closing, if !must_close => {
                    must_close = true;
                    continue;
                }
                piece = from_app.next() => piece,
            };
            let Ok(Some(piece)) = piece else {
                guard.close(ClosedBy::Upstream, NO_CLOSE_FRAME);
                break;
            };
            // A busy app does not pause between its frames, so look for a boundary within what it has sent.
            let end = if must_close {
                frames.pass_frame(&piece)
            } else {
                frames.pass(&piece);
                None
            };
            let piece = end.and_then(|end| piece.get(..end)).unwrap_or(&piece);
            if let Some(code) = frames.close_code() {
                guard.close(ClosedBy::Upstream, code);
            }
            progress.sent.set(progress.sent.get() + piece.len() as u64);
            if to_client.data(piece).await.is_err() {
                guard.close(ClosedBy::Client, NO_CLOSE_FRAME);
                return;
            }
        }
        let _ = to_client.end(&[]).await;
    });
    let both = async {
        // Each first in turn: a side that never pauses would otherwise use up what tokio lets a task do at once.
        let mut is_up_first = false;
        let first = std::future::poll_fn(|context| {
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
