//! Keeps the guard that refuses repeated requests for the decision record.
//!
//! It is in Envoy's shared data, because each worker has its own VM, and a request that one worker has answered could be
//! repeated to another one. Two workers that change it at once are told apart by the version of the value. Only a request
//! with a valid MAC reaches the shared data.

use fluxlit_policy::{Probe, ProbeGuard, ProbeOutcome};

use crate::host::{self, SharedData};

/// Makes the guard if there is none, so that it knows since when requests are remembered.
pub(crate) fn prepare() {
    // Fails if another worker has made it.
    if let Some(now) = host::unix_time() {
        host::set_shared_data(KEY, &ProbeGuard::new(now).to_bytes(), NO_VERSION);
    }
}

/// Decides whether a request, whose MAC is right, is answered, and remembers it.
pub(crate) fn admit(probe: &Probe) -> ProbeOutcome {
    let Some(now) = host::unix_time() else {
        return ProbeOutcome::Unavailable;
    };
    for _ in 0..MAX_ATTEMPTS {
        let (mut guard, version) = match host::shared_data(KEY) {
            SharedData::Present(bytes, version) => (ProbeGuard::from_bytes(&bytes, now), version),
            SharedData::Absent => (ProbeGuard::new(now), NO_VERSION),
            SharedData::Unavailable => break,
        };
        let outcome = guard.admit(probe, now);
        // What was decided counts only if no other worker has changed the guard in the meantime.
        if host::set_shared_data(KEY, &guard.to_bytes(), version) {
            return outcome;
        }
    }
    ProbeOutcome::Unavailable
}

/// The name of the guard in the shared data. Plugins with the same `vm_id` share it.
const KEY: &str = "fluxlit.probes";

/// A version that no value has: Envoy creates a value with any version, but replaces it only if the version is equal, or 0.
/// Versions count up from 1.
const NO_VERSION: u32 = u32::MAX;

/// How often the guard is read again because another worker has changed it. Each time, another request has made progress.
const MAX_ATTEMPTS: usize = 32;
