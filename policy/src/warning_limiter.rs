//! Limits how often an operator is warned about the same subject.
//!
//! Requests cause warnings, so clients must not be able to fill the disk with them: each subject is logged once in an
//! interval, peers are grouped by network, and the number of subjects within an interval is limited.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Remembers when each subject was last logged. It reads no clock: callers pass the time.
#[derive(Debug, Clone)]
pub struct WarningLimiter<S> {
    logged_at: BTreeMap<S, Duration>,
}

impl<S: Ord> WarningLimiter<S> {
    /// The time between two warnings about the same subject.
    pub const INTERVAL: Duration = Duration::from_secs(60);

    /// The maximum number of subjects within [`Self::INTERVAL`].
    pub const MAX_SUBJECTS: usize = 100;

    /// Returns true if a warning about `subject` should be logged now, and remembers it.
    ///
    /// `now`: the time since any fixed moment, such as the start of the process.
    pub fn is_due(&mut self, subject: S, now: Duration) -> bool {
        let is_recent = |last: &Duration| now.saturating_sub(*last) < Self::INTERVAL;
        if self.logged_at.get(&subject).is_some_and(is_recent) {
            return false;
        }
        if self.logged_at.len() >= Self::MAX_SUBJECTS {
            self.logged_at.retain(|_, last| is_recent(last));
        }
        let has_room = self.logged_at.len() < Self::MAX_SUBJECTS;
        if has_room {
            self.logged_at.insert(subject, now);
        }
        has_room
    }
}

impl<S> Default for WarningLimiter<S> {
    fn default() -> Self {
        Self {
            logged_at: BTreeMap::new(),
        }
    }
}

/// Returns the network under which a peer is warned about: an IPv4 /24 or an IPv6 /48.
pub fn warning_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & 0xffff_ff00).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 80 << 80).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_grouped_by_network() {
        for (address, network) in [
            ("192.0.2.200", "192.0.2.0"),
            ("0.0.0.1", "0.0.0.0"),
            ("2001:db8:1:2::3", "2001:db8:1::"),
            ("::ffff:192.0.2.1", "::"),
        ] {
            let address = address.parse().map(warning_network);
            assert_eq!(address, network.parse(), "{network}");
        }
    }

    #[test]
    fn each_network_is_logged_once_a_minute() {
        let mut limiter = WarningLimiter::default();
        for (address, seconds, is_due) in [
            ("192.0.2.1", 0, true),
            ("192.0.2.200", 1, false),
            ("192.0.3.1", 1, true),
            ("2001:db8::1", 1, true),
            ("2001:db8:0:1::1", 2, false),
            ("2001:db8:1::1", 2, true),
            ("192.0.2.1", 59, false),
            ("192.0.2.1", 60, true),
        ] {
            let network = warning_network(address.parse().unwrap());
            let found = limiter.is_due(network, Duration::from_secs(seconds));
            assert_eq!(found, is_due, "{address} after {seconds} s");
        }
    }

    #[test]
    fn the_number_of_subjects_is_limited() {
        let mut limiter = WarningLimiter::default();
        let now = Duration::from_secs(7);
        let logged = (0..u32::from(u8::MAX))
            .filter(|subject| limiter.is_due(*subject, now))
            .count();
        assert_eq!(logged, WarningLimiter::<u32>::MAX_SUBJECTS);
        // A subject beyond the limit is due once the others are old.
        assert!(!limiter.is_due(1000, now));
        assert!(limiter.is_due(1000, now + WarningLimiter::<u32>::INTERVAL));
    }
}
