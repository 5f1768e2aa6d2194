//! Limits how many requests are sent upstream at the same time, and how many wait for their turn.
//!
//! Both limits apply to all workers together. A request beyond them gets 503 at once, because a queue without a limit would
//! only delay the failure.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Admits requests to the upstreams.
pub(crate) struct Admission {
    /// `None` if there is no limit.
    permits: Option<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// Permission to send one request upstream, until it is dropped.
pub(crate) struct Permit<'a> {
    _permit: Option<SemaphorePermit<'a>>,
}

/// The error when too many requests are waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull;

impl Admission {
    /// `max`: requests at the same time, 0 for no limit. `max_waiting`: requests that may wait.
    pub(crate) fn new(max: usize, max_waiting: usize) -> Self {
        Self {
            permits: (max > 0).then(|| Semaphore::new(max.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            max_waiting,
        }
    }

    /// Returns a permit if one is free.
    pub(crate) fn try_admit(&self) -> Option<Permit<'_>> {
        match &self.permits {
            None => Some(Permit { _permit: None }),
            Some(permits) => permits.try_acquire().ok().map(|permit| Permit {
                _permit: Some(permit),
            }),
        }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] if too many requests are waiting.
    pub(crate) async fn admit(&self) -> Result<Permit<'_>, QueueFull> {
        let Some(permits) = &self.permits else {
            return Ok(Permit { _permit: None });
        };
        let waiting = Waiting::new(&self.waiting);
        if waiting.others >= self.max_waiting {
            return Err(QueueFull);
        }
        let permit = permits.acquire().await.map_err(|_| QueueFull)?;
        Ok(Permit {
            _permit: Some(permit),
        })
    }

    /// Returns how many requests are waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Counts a request as waiting until it is dropped.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_rejects() {
        let admission = Admission::new(1, 1);
        let first = admission.try_admit();
        assert!(first.is_some() && admission.try_admit().is_none());
        let second = admission.admit();
        let mut second = std::pin::pin!(second);
        assert!(poll_once(second.as_mut()).is_none(), "it waits");
        assert_eq!(admission.waiting(), 1);
        assert_eq!(admission.admit().await.err(), Some(QueueFull));
        drop(first);
        assert!(second.await.is_ok());
        assert_eq!(admission.waiting(), 0);
        assert!(Admission::new(0, 0).try_admit().is_some());
    }

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
