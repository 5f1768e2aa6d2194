//! Limits how long an HTTP/2 header block may take to arrive.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Limits how long a header block may take to arrive. No time is measured for a block that arrives at once.
pub(super) struct HeadTimer {
    limit: Duration,
    /// The number of the block that is arriving.
    block: Option<u64>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl HeadTimer {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            block: None,
            sleep: None,
        }
    }

    /// Is ready when the limit of the block that is arriving has passed. `block`: its number.
    pub(super) fn poll_elapsed(
        &mut self,
        block: Option<u64>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let is_same = self.block == block;
        self.block = block;
        if block.is_none() {
            return Poll::Pending;
        }
        let deadline = || Instant::now() + self.limit;
        match &mut self.sleep {
            Some(sleep) if is_same => sleep.as_mut().poll(context),
            Some(sleep) => {
                sleep.as_mut().reset(deadline());
                sleep.as_mut().poll(context)
            }
            None => {
                let sleep = self.sleep.insert(Box::pin(sleep_until(deadline())));
                sleep.as_mut().poll(context)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_block_has_its_own_time() {
        let limit = Duration::from_secs(10);
        let mut timer = HeadTimer::new(limit);
        for (block, passes, want) in [
            (None, 60, false),
            (Some(1), 9, false),
            (Some(2), 9, false),
            (None, 60, false),
            (Some(3), 9, false),
            (Some(3), 2, true),
        ] {
            let start = std::future::poll_fn(|context| {
                Poll::Ready(timer.poll_elapsed(block, context).is_ready())
            });
            assert!(!start.await, "{block:?} begins");
            let elapsed = std::future::poll_fn(|context| timer.poll_elapsed(block, context));
            let elapsed = tokio::time::timeout(Duration::from_secs(passes), elapsed).await;
            assert_eq!(elapsed.is_ok(), want, "{block:?}");
        }
    }
}
