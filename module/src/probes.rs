//! Keeps the guard that refuses repeated requests for the decision record.
//!
//! There is one for the process, so that a request that one worker has answered cannot be repeated to another one, nor after a
//! change of the configuration.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use fluxlit_policy::{Probe, ProbeGuard, ProbeOutcome};

static GUARD: OnceLock<Mutex<ProbeGuard>> = OnceLock::new();

/// Makes the guard if there is none, so that it knows since when requests are remembered.
pub(crate) fn prepare() {
    if let Some(now) = unix_time() {
        GUARD.get_or_init(|| Mutex::new(ProbeGuard::new(now)));
    }
}

/// Decides whether a request, whose MAC is right, is answered, and remembers it.
pub(crate) fn admit(probe: &Probe) -> ProbeOutcome {
    let (Some(guard), Some(now)) = (GUARD.get(), unix_time()) else {
        return ProbeOutcome::Unavailable;
    };
    // A guard that another thread has left half changed has, at worst, one more nonce than answers.
    let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
    guard.admit(probe, now)
}

fn unix_time() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}
