//! What does a filter do when the host does not?
//!
//! A fault makes one host call answer another status, the allocator fail, or a callback trap, the n-th time it comes
//! up. Envoy does each of these at times; a filter that has never met them meets them in production.

use std::collections::BTreeMap;

use crate::abi::Status;

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub at: FaultPoint,
    /// The how manieth time it comes up, from 1; 0 for every time.
    pub number: u32,
}

/// What can go wrong on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultPoint {
    /// The module's allocator answers 0.
    Allocation,
    /// A callback traps before it begins.
    Callback(String),
    /// A host function does nothing and answers this status.
    HostCall {
        /// Its name, such as `proxy_get_property`.
        function: String,
        /// What it answers.
        status: Status,
    },
}

/// The faults of one VM, and how often each of their places has come up.
#[derive(Default)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    counts: BTreeMap<String, u32>,
}

impl Faults {
    pub(crate) fn new(faults: &[Fault]) -> Self {
        Self {
            faults: faults.to_vec(),
            counts: BTreeMap::new(),
        }
    }

    /// The status that a call of `function` has to answer.
    pub(crate) fn host_call(&mut self, function: &str) -> Option<Status> {
        let count = self.count(function)?;
        self.faults.iter().find_map(|fault| match &fault.at {
            FaultPoint::HostCall {
                function: other,
                status,
            } if other == function && fault.strikes(count) => Some(*status),
            _ => None,
        })
    }

    pub(crate) fn allocation(&mut self) -> bool {
        let Some(count) = self.count("allocation") else {
            return false;
        };
        self.faults
            .iter()
            .any(|fault| fault.at == FaultPoint::Allocation && fault.strikes(count))
    }

    pub(crate) fn callback(&mut self, name: &str) -> bool {
        let Some(count) = self.count(name) else {
            return false;
        };
        self.faults.iter().any(|fault| {
            matches!(&fault.at, FaultPoint::Callback(other) if other == name)
                && fault.strikes(count)
        })
    }

    /// Counts, unless there is no fault to count for.
    fn count(&mut self, place: &str) -> Option<u32> {
        if self.faults.is_empty() {
            return None;
        }
        let count = self.counts.entry(place.to_owned()).or_default();
        *count = count.saturating_add(1);
        Some(*count)
    }
}

impl Fault {
    fn strikes(&self, count: u32) -> bool {
        self.number == 0 || self.number == count
    }
}
