//! Counts the open WebSocket tunnels of a worker and closes them when it stops.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::observe::Observer;
use crate::observe::websocket_close::{ClosedBy, NO_CLOSE_FRAME};
use crate::worker::signal::Signal;

/// The open tunnels of a worker.
#[derive(Default)]
pub(crate) struct Tunnels {
    open: Cell<usize>,
    /// The time over which closing them is spread.
    spread: Cell<Duration>,
    close: Signal,
    closed: Notify,
}

/// Counts a tunnel as open until it is dropped.
pub(crate) struct TunnelGuard<'a> {
    tunnels: &'a Tunnels,
    observer: &'a Observer,
    opened: Instant,
    /// Who has closed it first, and the close code. A tunnel that is dropped before its end was cut off.
    closed: Cell<Option<(ClosedBy, u16)>>,
}

impl TunnelGuard<'_> {
    /// Keeps who has closed the tunnel, and the code, unless it was closed before.
    pub(crate) fn close(&self, by: ClosedBy, code: u16) {
        if self.closed.get().is_none() {
            self.closed.set(Some((by, code)));
        }
    }

    /// Returns who has closed the tunnel first.
    pub(crate) fn closed_by(&self) -> Option<ClosedBy> {
        self.closed.get().map(|(by, _)| by)
    }
}

impl Tunnels {
    /// Counts one more tunnel.
    pub(crate) fn open<'a>(&'a self, observer: &'a Observer) -> TunnelGuard<'a> {
        self.open.set(self.open.get() + 1);
        observer.counters.websocket_opened();
        TunnelGuard {
            tunnels: self,
            observer,
            opened: Instant::now(),
            closed: Cell::new(None),
        }
    }

    /// Closes all tunnels and waits until they have ended. The closing is spread over a time that grows with their
    /// number, so that the browsers do not all reconnect at once.
    pub(crate) async fn close_all(&self, grace_period: Duration) {
        let spread = PAUSE_BETWEEN * u32::try_from(self.open.get()).unwrap_or(u32::MAX);
        self.spread.set(spread.min(grace_period / 2));
        self.close.raise();
        while self.open.get() > 0 {
            let _ = timeout(Duration::from_millis(50), self.closed.notified()).await;
        }
    }

    /// Waits until the calling tunnel must close.
    pub(crate) async fn must_close(&self) {
        self.close.wait().await;
        let spread = u64::try_from(self.spread.get().as_millis()).unwrap_or(u64::MAX);
        let random = uuid::Uuid::new_v4().as_u64_pair().0;
        if let Some(pause) = random.checked_rem(spread) {
            sleep(Duration::from_millis(pause)).await;
        }
    }
}

impl Drop for TunnelGuard<'_> {
    fn drop(&mut self) {
        let closed = self.closed.get();
        let (by, code) = closed.unwrap_or((ClosedBy::Drain, NO_CLOSE_FRAME));
        let lifetime = self.opened.elapsed();
        self.observer.counters.websocket_closed(by, code, lifetime);
        self.tunnels.open.set(self.tunnels.open.get() - 1);
        self.tunnels.closed.notify_waiters();
    }
}

/// Average time between the closing of two tunnels.
const PAUSE_BETWEEN: Duration = Duration::from_millis(2);
