//! Logs warnings that requests cause, each at most once a minute.

use std::net::IpAddr;
use std::sync::Mutex;

use fluxlit_policy::WarningLimiter;
use log::{Level, log};

use crate::host::Clock;

/// The subject of a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// A cookie that the mount cannot confine.
    HostCookie,
    /// Ignored forwarded headers of a network; `None` for a peer without an address.
    Ignored(Option<IpAddr>),
    /// An ignored `X-Forwarded-Prefix`.
    Prefix,
    /// The direct peer is unknown.
    UnknownPeer,
    /// A change that `report_only` withholds.
    Withheld(&'static str),
}

/// The warnings of a plugin.
#[derive(Debug)]
pub struct Warnings<C> {
    limiter: Mutex<WarningLimiter<Subject>>,
    clock: C,
}

impl<C: Clock> Warnings<C> {
    pub(crate) fn new(clock: C) -> Self {
        Self {
            limiter: Mutex::default(),
            clock,
        }
    }

    /// Returns the clock.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// Logs `text` unless the subject was logged within the last minute.
    ///
    /// No request waits for another: if another thread is about to log, this warning is left out.
    pub(crate) fn log(&self, subject: Subject, level: Level, text: impl FnOnce() -> String) {
        let Ok(mut limiter) = self.limiter.try_lock() else {
            return;
        };
        let is_due = limiter.is_due(subject, self.clock.now());
        drop(limiter);
        if is_due {
            log!(level, "{}", text());
        }
    }
}
