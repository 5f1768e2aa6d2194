//! Decides for all workers together which requests for the decision record are answered.
//!
//! Only requests with a valid MAC come here, so clients without the key cannot contend for the lock.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use fluxlit_policy::{Probe, ProbeGuard, ProbeOutcome};

/// The requests that were answered since the process has started.
#[derive(Debug)]
pub(crate) struct Probes(Mutex<ProbeGuard>);

impl Probes {
    /// Decides about a request whose MAC is right, and remembers it.
    pub(crate) fn admit(&self, probe: &Probe) -> ProbeOutcome {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.admit(probe, unix_time())
    }
}

impl Default for Probes {
    fn default() -> Self {
        Self(Mutex::new(ProbeGuard::new(unix_time())))
    }
}

/// Returns the seconds since 1970.
fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
