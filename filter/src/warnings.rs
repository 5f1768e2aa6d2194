//! What is an operator told while requests are served, and how often?
//!
//! Whoever sends the requests must not be able to fill the disk. So each subject is spoken of at most once a minute,
//! and there are only so many subjects.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;

use fluxlit_policy::{MAX_WARNINGS, WARNING_INTERVAL_S, warning_network};

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

/// When each subject was last spoken of.
#[derive(Default)]
pub(crate) struct Warnings {
    /// In seconds since the plugin was configured.
    said: RefCell<BTreeMap<Subject, u64>>,
    now: Cell<u64>,
}

impl Warnings {
    /// Another second has passed.
    pub(crate) fn tick(&self) {
        self.now.set(self.now.get().saturating_add(1));
    }

    /// Logs `text` if the subject was not spoken of within the last minute.
    pub(crate) fn say(&self, subject: Subject, level: Level, text: impl FnOnce() -> String) {
        let now = self.now.get();
        let mut said = self.said.borrow_mut();
        if said
            .get(&subject)
            .is_some_and(|last| now.saturating_sub(*last) < WARNING_INTERVAL_S)
        {
            return;
        }
        if said.len() >= MAX_WARNINGS {
            said.retain(|_, last| now.saturating_sub(*last) < WARNING_INTERVAL_S);
        }
        if said.len() < MAX_WARNINGS {
            said.insert(subject, now);
            host::log(level, &text());
        }
    }
}
