//! Polls a future only when it may be ready.

use std::pin::{Pin, pin};
use std::task::{Poll, Waker};

use tokio::task::coop::has_budget_remaining;

/// Waits for a future that is seldom ready, but shares a task with others that often are. It is polled for the first time, after
/// a move to another task, and whenever `may_be_ready` returns true. That must return true as soon as the future can complete.
pub(crate) async fn seldom<F: Future>(
    future: F,
    may_be_ready: impl Fn(Pin<&F>) -> bool,
) -> F::Output {
    let mut future = pin!(future);
    let mut registered: Option<Waker> = None;
    std::future::poll_fn(|context| {
        match &registered {
            Some(waker) if waker.will_wake(context.waker()) => {
                if !may_be_ready(future.as_ref()) {
                    return Poll::Pending;
                }
            }
            // A future of tokio that is polled without budget registers nothing but wakes the task.
            _ => registered = has_budget_remaining().then(|| context.waker().clone()),
        }
        future.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::coop::poll_proceed;
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test]
    async fn a_timer_first_polled_without_budget_fires() {
        let mut timer = pin!(seldom(sleep(Duration::from_millis(10)), |sleep| sleep.is_elapsed()));
        let mut is_first = true;
        let wait = std::future::poll_fn(|context| {
            while is_first && let Poll::Ready(used) = poll_proceed(context) {
                used.made_progress();
            }
            is_first = false;
            timer.as_mut().poll(context)
        });
        timeout(Duration::from_secs(2), wait)
            .await
            .expect("it never fires");
    }
}
