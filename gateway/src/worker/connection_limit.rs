//! Limits how many client connections are open, in total and per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The open connections of all workers.
pub(crate) struct ConnectionLimit {
    max: AtomicUsize,
    max_per_peer: AtomicUsize,
    open: AtomicUsize,
    by_peer: Mutex<HashMap<IpAddr, usize>>,
}

/// Counts a connection as open until it is dropped.
pub(crate) struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    peer: Option<IpAddr>,
}

impl ConnectionLimit {
    /// `max`: connections in total. `max_per_peer`: connections from one address. 0 means no limit.
    pub(crate) fn new(max: usize, max_per_peer: usize) -> Self {
        Self {
            max: max.into(),
            max_per_peer: max_per_peer.into(),
            open: AtomicUsize::new(0),
            by_peer: Mutex::default(),
        }
    }

    /// Changes the limits. Connections that are open stay open.
    pub(crate) fn set(&self, max: usize, max_per_peer: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.max_per_peer.store(max_per_peer, Ordering::Relaxed);
    }

    /// Admits one more connection, or returns `None` if a limit is reached. `peer` is the address to count it for, `None`
    /// for a trusted proxy, which connects for many clients.
    pub(crate) fn admit(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<ConnectionPermit> {
        if let Some(peer) = peer {
            let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_peer.entry(peer).or_insert(0);
            let max_per_peer = self.max_per_peer.load(Ordering::Relaxed);
            if max_per_peer > 0 && *count >= max_per_peer {
                return None;
            }
            *count += 1;
        }
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let permit = ConnectionPermit {
            limit: Arc::clone(self),
            peer,
        };
        let max = self.max.load(Ordering::Relaxed);
        (max == 0 || open < max).then_some(permit)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limit.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(peer) = self.peer {
            let by_peer = self.limit.by_peer.lock();
            let mut by_peer = by_peer.unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_peer.get_mut(&peer) {
                *count -= 1;
                if *count == 0 {
                    by_peer.remove(&peer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn connections_are_counted_in_total_and_per_address() {
        let limit = Arc::new(ConnectionLimit::new(3, 2));
        let one = Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)));
        let other = Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, 2)));
        let first = limit.admit(one);
        let second = limit.admit(one);
        assert!(first.is_some() && second.is_some());
        assert!(limit.admit(one).is_none(), "two from one address");
        let third = limit.admit(other);
        assert!(third.is_some());
        assert!(limit.admit(None).is_none(), "three in total");
        drop(first);
        assert!(limit.admit(one).is_some());
        limit.set(0, 3);
        let more = limit.admit(None);
        assert!(more.is_some() && limit.admit(one).is_some());
        limit.set(1, 3);
        assert!(limit.admit(other).is_none());
    }
}
