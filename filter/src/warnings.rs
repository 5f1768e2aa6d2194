//! Logs warnings that requests cause, each at most once a minute.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::time::Duration;

use fluxlit_policy::WarningLimiter;
use log::{Level, log};

/// The subject of a warning.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Default)]
pub(crate) struct Warnings {
    limiter: RefCell<WarningLimiter<Subject>>,
    /// Seconds since the plugin was configured.
    now: Cell<u64>,
}

impl Warnings {
    /// Advances the time by a second.
    pub(crate) fn tick(&self) {
        self.now.set(self.now.get().saturating_add(1));
    }

    /// Logs `text` unless the subject was logged within the last minute.
    pub(crate) fn log(&self, subject: Subject, level: Level, text: impl FnOnce() -> String) {
        let now = Duration::from_secs(self.now.get());
        if self.limiter.borrow_mut().is_due(subject, now) {
            log!(level, "{}", text());
        }
    }
}
