//! Signals the connections of a worker that it is stopping.

use std::cell::Cell;

use tokio::sync::Notify;

/// The stop signal of a worker.
#[derive(Default)]
pub(crate) struct Drain {
    has_begun: Cell<bool>,
    begins: Notify,
}

impl Drain {
    /// Wakes everything that waits for the worker to stop.
    pub(crate) fn begin(&self) {
        self.has_begun.set(true);
        self.begins.notify_waiters();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Waits until the worker is stopping.
    pub(crate) async fn wait(&self) {
        let begins = self.begins.notified();
        if !self.has_begun() {
            begins.await;
        }
    }
}
