//! How many requests may be under way at once?
//!
//! A bound on what the upstream is asked at the same time, over all workers, and a bound on how many wait for their turn:
//! beyond both the answer is 503, at once, instead of a queue that nobody will live to see the end of.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The turnstile before the upstreams.
pub(crate) struct Admission {
    /// None: there is no bound.
    places: Option<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// Leave to ask the upstream.
pub(crate) struct Permit<'a> {
    _place: Option<SemaphorePermit<'a>>,
}

/// Too many are waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Admission {
    /// `most` requests at once, 0 for no bound; `most_waiting` more may wait.
    pub(crate) fn new(most: usize, most_waiting: usize) -> Self {
        Self {
            places: (most > 0).then(|| Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            most_waiting,
        }
    }

    /// A permit, if there is one at once.
    pub(crate) fn enter_now(&self) -> Option<Permit<'_>> {
        match &self.places {
            None => Some(Permit { _place: None }),
            Some(places) => places.try_acquire().ok().map(|place| Permit {
                _place: Some(place),
            }),
        }
    }

    /// A permit, once it is this request's turn.
    pub(crate) async fn enter(&self) -> Result<Permit<'_>, Full> {
        let Some(places) = &self.places else {
            return Ok(Permit { _place: None });
        };
        let waiting = Waiting::new(&self.waiting);
        if waiting.others >= self.most_waiting {
            return Err(Full);
        }
        let place = places.acquire().await.map_err(|_| Full)?;
        Ok(Permit {
            _place: Some(place),
        })
    }

    /// How many are waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// One that waits, until it is dropped.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    others: usize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        let others = count.fetch_add(1, Ordering::Relaxed);
        Self { count, others }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many connections are open, in all and from one address.
pub(crate) struct Connections {
    most: usize,
    most_of_peer: usize,
    open: AtomicUsize,
    by_peer: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place, until it is dropped.
pub(crate) struct Place {
    connections: std::sync::Arc<Connections>,
    peer: Option<IpAddr>,
}

impl Connections {
    /// At most `most` connections in all and `most_of_peer` from one address; 0 for no bound.
    pub(crate) fn new(most: usize, most_of_peer: usize) -> Self {
        Self {
            most,
            most_of_peer,
            open: AtomicUsize::new(0),
            by_peer: Mutex::default(),
        }
    }

    /// A place for one more connection; `peer` is the address that is counted, none for a proxy, which speaks for many.
    pub(crate) fn enter(self: &std::sync::Arc<Self>, peer: Option<IpAddr>) -> Option<Place> {
        if let Some(peer) = peer {
            let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_peer.entry(peer).or_insert(0);
            if self.most_of_peer > 0 && *count >= self.most_of_peer {
                return None;
            }
            *count += 1;
        }
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            connections: std::sync::Arc::clone(self),
            peer,
        };
        (self.most == 0 || open < self.most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(peer) = self.peer {
            let mut by_peer = self
                .connections
                .by_peer
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
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
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_queue_has_an_end() {
        let admission = Admission::new(1, 1);
        let first = admission.enter_now();
        assert!(first.is_some() && admission.enter_now().is_none());
        let second = admission.enter();
        let mut second = std::pin::pin!(second);
        assert!(futures_poll(second.as_mut()).is_none(), "it waits");
        assert_eq!(admission.waiting(), 1);
        assert_eq!(admission.enter().await.err(), Some(Full));
        drop(first);
        assert!(second.await.is_ok());
        assert_eq!(admission.waiting(), 0);
        assert!(Admission::new(0, 0).enter_now().is_some());
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let connections = Arc::new(Connections::new(3, 2));
        let one = Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)));
        let other = Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, 2)));
        let first = connections.enter(one);
        let second = connections.enter(one);
        assert!(first.is_some() && second.is_some());
        assert!(connections.enter(one).is_none(), "two of one address");
        let third = connections.enter(other);
        assert!(third.is_some());
        assert!(connections.enter(None).is_none(), "three in all");
        drop(first);
        assert!(connections.enter(one).is_some());
    }
}
