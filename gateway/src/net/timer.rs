//! Limits how long a future may take.
//!
//! Optimized for waits that end before their limit, as nearly all waits of a proxy do: if the future is ready at once, the
//! clock is not read, and a later deadline does not move the timer. It fires at the old deadline and is then set to the
//! later one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant as StdInstant};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is reused for one wait after another.
#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

/// The limit was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl Timer {
    /// Waits for `future` for at most `limit`.
    pub(crate) fn within<F: Future>(&mut self, limit: Duration, future: F) -> Within<'_, F> {
        Within {
            timer: self,
            limit,
            deadline: Deadline::Own(None),
            future,
        }
    }

    /// Waits for `future` for at most `limit`, counted from an instant that was read before.
    pub(crate) fn within_since<F: Future>(
        &mut self,
        since: StdInstant,
        limit: Duration,
        future: F,
    ) -> Within<'_, F> {
        Within {
            timer: self,
            limit,
            deadline: Deadline::Own(Some(Instant::from_std(since) + limit)),
            future,
        }
    }

    /// Waits for `future` until `deadline`, which is set to `limit` from now if it is `None`.
    pub(crate) fn until<'a, F: Future>(
        &'a mut self,
        limit: Duration,
        deadline: &'a mut Option<Instant>,
        future: F,
    ) -> Within<'a, F> {
        Within {
            timer: self,
            limit,
            deadline: Deadline::Shared(deadline),
            future,
        }
    }

    /// Is ready once `deadline` has passed.
    fn poll_elapsed(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

pin_project! {
    /// A wait with a limit. Not an async function, because that would keep room for `future` twice: as its argument, and
    /// pinned.
    #[must_use = "nothing waits until this is awaited"]
    pub(crate) struct Within<'a, F> {
        timer: &'a mut Timer,
        limit: Duration,
        deadline: Deadline<'a>,
        #[pin]
        future: F,
    }
}

/// When a wait ends; `None` until it is known, which is at the latest when it is polled.
enum Deadline<'a> {
    Own(Option<Instant>),
    Shared(&'a mut Option<Instant>),
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        let deadline = match this.deadline {
            Deadline::Own(deadline) => deadline,
            Deadline::Shared(deadline) => &mut **deadline,
        };
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + *this.limit);
        this.timer
            .poll_elapsed(deadline, context)
            .map(|()| Err(Elapsed))
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
        let started = Instant::now();
        tokio::time::sleep(4 * second).await;
        let wait = timer.within_since(started.into_std(), 5 * second, never());
        assert_eq!(wait.await, Err(Elapsed));
        assert_eq!(started.elapsed().as_secs(), 5);
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
