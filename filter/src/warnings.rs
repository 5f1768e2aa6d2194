//! What is an operator told while requests are served, and how often?
//!
//! Whoever sends the requests must not be able to fill the disk. So each subject is spoken of at most once a minute,
//! and there are only so many subjects.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;

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

/// An IPv4 /24, an IPv6 /48, or what has no address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Network(Option<IpAddr>);

impl Network {
    pub(crate) fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address {
            IpAddr::V4(address) => IpAddr::V4((u32::from(address) & 0xffff_ff00).into()),
            IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 80 << 80).into()),
        }))
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
            .is_some_and(|last| now.saturating_sub(*last) < INTERVAL)
        {
            return;
        }
        if said.len() >= MOST_SUBJECTS {
            said.retain(|_, last| now.saturating_sub(*last) < INTERVAL);
        }
        if said.len() < MOST_SUBJECTS {
            said.insert(subject, now);
            host::log(level, &text());
        }
    }
}

/// Seconds between two warnings about the same.
const INTERVAL: u64 = 60;

/// Most subjects in a minute.
const MOST_SUBJECTS: usize = 100;
