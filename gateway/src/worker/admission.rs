//! Limits how many requests are sent upstream at the same time, and how many wait for their turn.
//!
//! Both limits apply to all workers together. A request beyond them gets 503 at once, because a queue without a limit would
//! only delay the failure.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Admits requests to the upstreams.
pub(crate) struct Admission {
    permits: Semaphore,
    /// The number of permits, free or not, that there are or will be.
    max: Mutex<usize>,
    /// Permits that are removed as soon as they are free.
    surplus: AtomicUsize,
    waiting: AtomicUsize,
    max_waiting: AtomicUsize,
}

/// Permission to send one request upstream, until it is dropped.
pub(crate) struct Permit<'a> {
    permit: Option<SemaphorePermit<'a>>,
    surplus: &'a AtomicUsize,
}

/// The error when too many requests are waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull;

impl Admission {
    /// `max`: requests at the same time, 0 for no limit. `max_waiting`: requests that may wait.
    pub(crate) fn new(max: usize, max_waiting: usize) -> Self {
        let max = permits(max);
        Self {
            permits: Semaphore::new(max),
            max: Mutex::new(max),
            surplus: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            max_waiting: max_waiting.into(),
        }
    }

    /// Changes the limits. Requests that are in flight continue, and count.
    pub(crate) fn set(&self, max: usize, max_waiting: usize) {
        self.max_waiting.store(max_waiting, Ordering::Relaxed);
        let new = permits(max);
        let mut max = self.max.lock().unwrap_or_else(PoisonError::into_inner);
        if new < *max {
            let removed = *max - new;
            let removed_now = self.permits.forget_permits(removed);
            self.surplus
                .fetch_add(removed - removed_now, Ordering::Relaxed);
        } else {
            let mut added = new - *max;
            while added > 0 && take_one(&self.surplus) {
                added -= 1;
            }
            self.permits.add_permits(added);
        }
        *max = new;
    }

    /// Returns a permit if one is free.
    pub(crate) fn try_admit(&self) -> Option<Permit<'_>> {
        let permit = self.permits.try_acquire().ok()?;
        Some(self.permit(permit))
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] if too many requests are waiting.
    pub(crate) async fn admit(&self) -> Result<Permit<'_>, QueueFull> {
        let waiting = Waiting::new(&self.waiting);
        if waiting.others >= self.max_waiting.load(Ordering::Relaxed) {
            return Err(QueueFull);
        }
        let permit = self.permits.acquire().await.map_err(|_| QueueFull)?;
        Ok(self.permit(permit))
    }

    fn permit<'a>(&'a self, permit: SemaphorePermit<'a>) -> Permit<'a> {
        Permit {
            permit: Some(permit),
            surplus: &self.surplus,
        }
    }

    /// Returns how many requests are waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && take_one(self.surplus)
        {
            permit.forget();
        }
    }
}

/// Subtracts one, unless it is zero.
fn take_one(count: &AtomicUsize) -> bool {
    let less = |count: usize| count.checked_sub(1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// Returns the number of permits for a limit, where 0 means no limit.
fn permits(max: usize) -> usize {
    match max {
        0 => Semaphore::MAX_PERMITS,
        max => max.min(Semaphore::MAX_PERMITS),
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

    #[test]
    fn limits_change_while_requests_are_in_flight() {
        // The limits one after another, and how many requests of two more are admitted while two are in flight.
        for (limits, admitted) in [
            (&[2][..], 0),
            (&[2, 3], 1),
            (&[2, 0], 2),
            (&[2, 1], 0),
            (&[2, 1, 2], 0),
            (&[2, 1, 3], 1),
            (&[0, 2], 0),
            (&[0, 2, 0], 2),
        ] {
            let admission = Admission::new(limits[0], 0);
            let in_flight = [admission.try_admit(), admission.try_admit()];
            assert!(in_flight.iter().all(Option::is_some));
            for limit in &limits[1..] {
                admission.set(*limit, 0);
            }
            let more = [admission.try_admit(), admission.try_admit()];
            assert_eq!(more.iter().flatten().count(), admitted, "{limits:?}");
            // Afterwards exactly the last limit is left.
            drop((in_flight, more));
            let last = *limits.last().unwrap();
            let all: Vec<_> = (0..4).map_while(|_| admission.try_admit()).collect();
            assert_eq!(
                all.len(),
                if last == 0 { 4 } else { last.min(4) },
                "{limits:?}"
            );
        }
    }

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
