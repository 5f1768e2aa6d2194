//! Defines an accepted connection, and counts a worker's open connections.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::net::stream::Stream;
use crate::worker::Worker;
use crate::worker::connection_limit::ConnectionPermit;

/// An accepted connection, before anything is read from it.
pub(super) struct Accepted {
    pub(super) stream: Rc<Stream>,
    pub(super) peer: IpAddr,
    pub(super) tls: bool,
    /// The URI name of the client's certificate, if it has one that was verified.
    pub(super) identity: Option<Box<[u8]>>,
    /// True if it arrived on the admin listener.
    pub(super) is_admin: bool,
    /// Counts the connection; `None` on the admin listener.
    #[expect(dead_code, reason = "counts until it is dropped")]
    pub(super) guard: Option<ConnectionGuard>,
}

/// The number of open connections of a worker.
#[derive(Clone, Default)]
pub(crate) struct OpenConnections(Rc<Cell<usize>>);

/// Counts a connection as open until it is dropped.
pub(super) struct ConnectionGuard {
    open: OpenConnections,
    worker: Rc<Worker>,
    _permit: ConnectionPermit,
}

impl OpenConnections {
    pub(crate) fn count(&self) -> usize {
        self.0.get()
    }

    /// Counts one more connection.
    pub(super) fn add(&self, worker: &Rc<Worker>, permit: ConnectionPermit) -> ConnectionGuard {
        self.0.set(self.0.get() + 1);
        worker.observer.counters.connection_opened();
        ConnectionGuard {
            open: self.clone(),
            worker: Rc::clone(worker),
            _permit: permit,
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.worker.observer.counters.connection_closed();
        self.open.0.set(self.open.0.get() - 1);
    }
}
