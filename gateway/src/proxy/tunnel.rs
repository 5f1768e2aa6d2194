//! How does a WebSocket go on once both sides have switched?
//!
//! As bytes, both ways: frames, close codes, compression and pings are between browser and Streamlit. The end of one side
//! is passed to the other, which has a moment to end as well. When the gateway stops, the browser is told to come again
//! by a close frame, put between two frames of the app's.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::http::body::{Sink, Source};
use crate::http::websocket::{CLOSE_RESTART, Frames};
use crate::net::timer::Timer;
use crate::observe::Ending;
use crate::proxy::exchange::Progress;
use crate::worker::Worker;

/// A worker's open tunnels.
#[derive(Default)]
pub(crate) struct Tunnels {
    open: Cell<usize>,
    is_closing: Cell<bool>,
    /// The longest time that closing them may be spread over.
    spread: Cell<Duration>,
    close: Notify,
    closed: Notify,
}

impl Tunnels {
    /// Tells every browser to come again, spread over a time that grows with their number so that they do not all come at
    /// once, and waits until the tunnels have ended.
    pub(crate) async fn end(&self, grace_period: Duration) {
        let each = PAUSE_BETWEEN * u32::try_from(self.open.get()).unwrap_or(u32::MAX);
        self.spread.set(each.min(grace_period / 2));
        self.is_closing.set(true);
        self.close.notify_waiters();
        while self.open.get() > 0 {
            let _ = timeout(Duration::from_millis(50), self.closed.notified()).await;
        }
    }

    /// Waits until this tunnel must end.
    async fn ends(&self) {
        let closing = self.close.notified();
        if !self.is_closing.get() {
            closing.await;
        }
        let spread = u64::try_from(self.spread.get().as_millis()).unwrap_or(u64::MAX);
        let place = uuid::Uuid::new_v4().as_u64_pair().0;
        if let Some(pause) = place.checked_rem(spread) {
            sleep(Duration::from_millis(pause)).await;
        }
    }
}

/// Connects two sides until both have ended; returns why they have.
pub(crate) async fn connect(
    worker: &Worker,
    client: (impl Source, impl Sink),
    app: (impl Source, impl Sink),
    passed: &Progress,
) -> Ending {
    let tunnels = &worker.tunnels;
    let _open = Open::new(worker);
    let (mut from_client, mut to_client) = client;
    let (mut from_app, mut to_app) = app;
    let ending = Cell::new(Ending::Complete);
    let moved = Cell::new(0u64);
    let up = async {
        while let Ok(Some(piece)) = from_client.next().await {
            moved.set(moved.get() + 1);
            passed
                .received
                .set(passed.received.get() + piece.len() as u64);
            if to_app.data(&piece).await.is_err() {
                return;
            }
        }
        let _ = to_app.end(&[]).await;
    };
    let down = async {
        let mut frames = Frames::default();
        let mut ends = pin!(tunnels.ends());
        let mut must_end = false;
        loop {
            if must_end && frames.is_between() {
                ending.set(Ending::Drained);
                let _ = to_client.data(&CLOSE_RESTART).await;
                break;
            }
            let piece = tokio::select! {
                () = &mut ends, if !must_end => {
                    must_end = true;
                    continue;
                }
                piece = from_app.next() => piece,
            };
            let Ok(Some(piece)) = piece else {
                break;
            };
            // A busy app leaves no pause between its frames, so the place for ours is found within what it has sent.
            let end = if must_end {
                frames.pass_frame(&piece)
            } else {
                frames.pass(&piece);
                None
            };
            let piece = end.and_then(|end| piece.get(..end)).unwrap_or(&piece);
            moved.set(moved.get() + 1);
            passed.sent.set(passed.sent.get() + piece.len() as u64);
            if to_client.data(piece).await.is_err() {
                return;
            }
        }
        let _ = to_client.end(&[]).await;
    };
    let both = async {
        let mut up = pin!(up);
        let mut down = pin!(down);
        tokio::select! {
            () = &mut up => { let _ = timeout(LINGER, down).await; }
            () = &mut down => { let _ = timeout(LINGER, up).await; }
        }
    };
    tokio::select! {
        () = both => {}
        () = is_idle(&moved, worker.settings.limits.websocket_idle) => {
            ending.set(Ending::ClientTimeout);
        }
    }
    ending.into_inner()
}

/// Waits until nothing has moved for this long.
async fn is_idle(moved: &Cell<u64>, limit: Duration) {
    if limit.is_zero() {
        std::future::pending::<()>().await;
    }
    let mut timer = Timer::default();
    loop {
        let before = moved.get();
        let _ = timer.within(limit, std::future::pending::<()>()).await;
        if moved.get() == before {
            return;
        }
    }
}

/// Counts a tunnel as open until it is dropped.
struct Open<'a>(&'a Worker);

impl<'a> Open<'a> {
    fn new(worker: &'a Worker) -> Self {
        worker.tunnels.open.set(worker.tunnels.open.get() + 1);
        worker.observer.counters.websocket_opened();
        Self(worker)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.observer.counters.websocket_closed();
        self.0.tunnels.open.set(self.0.tunnels.open.get() - 1);
        self.0.tunnels.closed.notify_waiters();
    }
}

/// How long the second side of a half-closed tunnel may take to end.
const LINGER: Duration = Duration::from_secs(10);

/// How much time there is between two browsers that are told to come again.
const PAUSE_BETWEEN: Duration = Duration::from_millis(2);
