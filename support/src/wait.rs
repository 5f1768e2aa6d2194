//! Waits for a condition, for a limited time.

use std::time::{Duration, Instant};

/// Waits until `condition` holds; returns false if it does not within `limit`.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    wait_for(limit, || condition().then_some(())).is_some()
}

/// Calls `poll` until it returns a value, for at most `limit`.
pub fn wait_for<T>(limit: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        let value = poll();
        if value.is_some() || Instant::now() > deadline {
            return value;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Short, because most conditions hold soon.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// Leaves the processor to the process that we wait for.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
