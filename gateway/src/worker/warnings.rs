//! Warns operators about requests, at most once a minute for each subject.
//!
//! The number of subjects is limited too, so that clients cannot fill the disk with warnings.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use fluxlit_policy::{PREFIX_IGNORED_WARNING, WarningLimiter, warning_network};

/// The subject of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// Forwarded headers of this network are ignored.
    Ignored(IpAddr),
    /// A cookie that the mount cannot confine.
    HostCookie,
    /// An ignored `X-Forwarded-Prefix`.
    Prefix,
}

/// Limits the warnings of all workers together.
#[derive(Debug)]
pub(crate) struct Warnings {
    limiter: Mutex<WarningLimiter<Subject>>,
    started: Instant,
}

impl Warnings {
    /// Warns that forwarded headers of an untrusted peer are ignored, and how to trust it.
    pub(crate) fn forwarded_ignored(&self, peer: IpAddr) {
        if self.is_due(Subject::Ignored(warning_network(peer))) {
            tracing::warn!(
                "forwarded headers of {peer} are ignored; if that is your proxy, set FLUXLIT_TRUST_PROXY=1 and list \
                 {peer} in FLUXLIT_FORWARDED_ALLOW_IPS"
            );
        }
    }

    /// Warns that the app sets a cookie that every app of the host receives.
    pub(crate) fn host_cookie_kept(&self) {
        if self.is_due(Subject::HostCookie) {
            tracing::warn!(
                "the app sets a __Host- cookie, which browsers accept with Path=/ only: every app of this host gets it"
            );
        }
    }

    /// Warns that an `X-Forwarded-Prefix` of a trusted peer is ignored.
    pub(crate) fn prefix_ignored(&self) {
        if self.is_due(Subject::Prefix) {
            tracing::warn!("{PREFIX_IGNORED_WARNING}");
        }
    }

    /// Returns true unless the subject was logged within the last minute.
    fn is_due(&self, subject: Subject) -> bool {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.is_due(subject, self.started.elapsed())
    }
}

impl Default for Warnings {
    fn default() -> Self {
        Self {
            limiter: Mutex::default(),
            started: Instant::now(),
        }
    }
}
