//! Tells the tasks of a worker once that something has begun.

use std::cell::Cell;

use tokio::sync::Notify;

use crate::net::seldom::seldom;

/// A signal that is raised once and then stays.
#[derive(Default)]
pub(crate) struct Signal {
    is_raised: Cell<bool>,
    raised: Notify,
}

impl Signal {
    /// Raises the signal.
    pub(crate) fn raise(&self) {
        self.is_raised.set(true);
        self.raised.notify_waiters();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.is_raised.get()
    }

    /// Waits for the signal.
    pub(crate) async fn wait(&self) {
        let raised = self.raised.notified();
        if !self.is_raised() {
            seldom(raised, |_| self.is_raised()).await;
        }
    }
}
