//! Limits how long a future may take.
//!
//! Optimized for waits that end before their limit, as nearly all waits of a proxy do: if the future is ready at once, the
//! clock is not read, and a later deadline does not move the timer. It fires at the old deadline and is then set to the
//! later one.

use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is reused for one wait after another.
#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

/// The limit was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl Timer {
    /// Waits for `future` for at most `limit`.
    pub(crate) async fn within<F: Future>(
        &mut self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        self.until(limit, &mut None, future).await
    }

    /// Waits for `future` until `deadline`, which is set to `limit` from now if it is `None`.
    pub(crate) async fn until<F: Future>(
        &mut self,
        limit: Duration,
        deadline: &mut Option<Instant>,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + limit);
            let sleep = self
                .0
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            loop {
                ready!(sleep.as_mut().poll(context));
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Elapsed));
                }
                sleep.as_mut().reset(deadline);
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_limit() {
        let mut timer = Timer::default();
        let second = Duration::from_secs(1);
        let never = std::future::pending::<()>;
        assert_eq!(timer.within(second, async { 7 }).await, Ok(7));
        for limit in [5, 1, 3] {
            let started = Instant::now();
            assert_eq!(timer.within(limit * second, never()).await, Err(Elapsed));
            assert_eq!(started.elapsed().as_secs(), u64::from(limit));
        }
        let started = Instant::now();
        let wait = timer.within(10 * second, tokio::time::sleep(4 * second));
        assert_eq!(wait.await, Ok(()));
        assert_eq!(timer.within(2 * second, never()).await, Err(Elapsed));
        assert_eq!(started.elapsed().as_secs(), 6);
        let (started, mut deadline) = (Instant::now(), None);
        for passed in [4, 8] {
            let moment = tokio::time::sleep(4 * second);
            assert_eq!(timer.until(9 * second, &mut deadline, moment).await, Ok(()));
            assert_eq!(started.elapsed().as_secs(), passed);
        }
        let last = timer.until(9 * second, &mut deadline, never()).await;
        assert_eq!((last, started.elapsed().as_secs()), (Err(Elapsed), 9));
    }
}
