//! What is an operator told while requests are served, and how often?
//!
//! Whoever sends the requests must not be able to fill the disk. So each subject is spoken of at most once a minute,
//! and there are only so many subjects.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::time::Duration;

use fluxlit_policy::{WarningLimiter, warning_network};

use crate::host::{self, Level};

/// What a warning is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// Forwarded headers of this network are ignored.
    Ignored(Network),
    /// A cookie that the mount cannot confine.
    HostCookie,
    /// The direct peer is unknown.
    UnknownPeer,
    /// What would be done without `report_only`.
    Withheld(&'static str),
}

/// The network of a peer, or what has no address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Network(Option<IpAddr>);

impl Network {
    pub(crate) fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(warning_network))
    }
}

/// Limits the warnings of a plugin.
#[derive(Default)]
pub(crate) struct Warnings {
    limiter: RefCell<WarningLimiter<Subject>>,
    /// Seconds since the plugin was configured.
    now: Cell<u64>,
}

impl Warnings {
    /// Another second has passed.
    pub(crate) fn tick(&self) {
        self.now.set(self.now.get().saturating_add(1));
    }

    /// Logs `text` unless the subject was logged within the last minute.
    pub(crate) fn say(&self, subject: Subject, level: Level, text: impl FnOnce() -> String) {
        let now = Duration::from_secs(self.now.get());
        if self.limiter.borrow_mut().is_due(subject, now) {
            host::log(level, &text());
        }
    }
}
