//! What is an operator told about requests while they are served, and how often?
//!
//! Whoever sends the requests must not be able to fill the disk. So each subject is spoken of at most once a minute, and
//! there are only so many subjects.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fluxlit_policy::{MAX_WARNINGS, WARNING_INTERVAL_S, warning_network};

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    /// Forwarded headers of this network are ignored.
    Ignored(IpAddr),
    /// A cookie that the mount cannot confine.
    HostCookie,
}

/// When each subject was last spoken of.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<HashMap<Subject, Instant>>);

impl Warnings {
    /// Says that forwarded headers of an untrusted peer were ignored, and what would make it trusted.
    pub(crate) fn forwarded_ignored(&self, peer: IpAddr) {
        if self.is_due(Subject::Ignored(warning_network(peer)), Instant::now()) {
            tracing::warn!(
                "forwarded headers of {peer} are ignored; if that is your proxy, set FLUXLIT_TRUST_PROXY=1 and list \
                 {peer} in FLUXLIT_FORWARDED_ALLOW_IPS"
            );
        }
    }

    /// Says that the app sets a cookie for every app of the host.
    pub(crate) fn host_cookie_kept(&self) {
        if self.is_due(Subject::HostCookie, Instant::now()) {
            tracing::warn!(
                "the app sets a __Host- cookie, which browsers accept with Path=/ only: every app of this host gets it"
            );
        }
    }

    /// Whether the subject was not spoken of within the last minute.
    fn is_due(&self, subject: Subject, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |last: &Instant| now.saturating_duration_since(*last) < INTERVAL;
        if said.get(&subject).is_some_and(is_fresh) {
            return false;
        }
        if said.len() >= MAX_WARNINGS {
            said.retain(|_, last| is_fresh(last));
        }
        let has_room = said.len() < MAX_WARNINGS;
        if has_room {
            said.insert(subject, now);
        }
        has_room
    }
}

/// Between two warnings about the same.
const INTERVAL: Duration = Duration::from_secs(WARNING_INTERVAL_S);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_spoken_of_once_a_minute() {
        let warnings = Warnings::default();
        let start = Instant::now();
        for (address, after, is_due) in [
            ("192.0.2.1", 0, true),
            ("192.0.2.200", 1, false),
            ("192.0.3.1", 1, true),
            ("2001:db8::1", 1, true),
            ("2001:db8:0:1::1", 2, false),
            ("2001:db8:1::1", 2, true),
            ("192.0.2.1", 59, false),
            ("192.0.2.1", 60, true),
        ] {
            let network = warning_network(address.parse().expect("an address"));
            let now = start + Duration::from_secs(after);
            let found = warnings.is_due(Subject::Ignored(network), now);
            assert_eq!(found, is_due, "{address} after {after} s");
        }
    }

    #[test]
    fn nobody_can_fill_the_log() {
        let warnings = Warnings::default();
        let now = Instant::now();
        let said = (0..=u8::MAX)
            .filter(|part| warnings.is_due(Subject::Ignored([10, 0, *part, 0].into()), now))
            .count();
        assert_eq!(said, MAX_WARNINGS);
        let later = now + INTERVAL;
        assert!(warnings.is_due(Subject::HostCookie, later));
    }
}
