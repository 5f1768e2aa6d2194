//! Polls a future only when it may be ready.

use std::pin::{Pin, pin};
use std::task::{Poll, Waker};

/// Waits for a future that is polled often together with others, and is seldom ready itself. It is polled the first time,
/// when it belongs to another task, and when `may_be_ready` returns true, which must be so once it would be ready.
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
            _ => registered = Some(context.waker().clone()),
        }
        future.as_mut().poll(context)
    })
    .await
}
