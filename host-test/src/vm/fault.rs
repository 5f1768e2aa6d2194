//! Injects faults of the host: a host call returns another status, the allocator fails, or a callback traps.
//!
//! Each of these happens in Envoy. Without a test, a filter meets them for the first time in production.

use std::collections::BTreeMap;

use crate::abi::Status;

/// An injected fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The point at which it is injected.
    pub at: FaultPoint,
    /// The occurrence at which it is injected, from 1; 0 for every occurrence.
    pub occurrence: u32,
}

/// A point at which a fault can be injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultPoint {
    /// The module's allocator returns 0.
    Allocation,
    /// The callback of this name traps before it begins.
    Callback(String),
    /// A host function does nothing and returns this status.
    HostCall {
        /// The function's name, such as `proxy_get_property`.
        function: String,
        /// The status that it returns.
        status: Status,
    },
}

/// The faults of one VM, and the number of occurrences of each fault point.
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

    /// Counts a call of `function` and returns the status that is injected, if any.
    pub(crate) fn host_call(&mut self, function: &str) -> Option<Status> {
        let count = self.count(function)?;
        self.faults.iter().find_map(|fault| match &fault.at {
            FaultPoint::HostCall {
                function: other,
                status,
            } if other == function && fault.is_due(count) => Some(*status),
            _ => None,
        })
    }

    /// Counts an allocation and returns true if it must fail.
    pub(crate) fn allocation(&mut self) -> bool {
        let Some(count) = self.count("allocation") else {
            return false;
        };
        self.faults
            .iter()
            .any(|fault| fault.at == FaultPoint::Allocation && fault.is_due(count))
    }

    /// Counts a callback and returns true if it must trap.
    pub(crate) fn callback(&mut self, name: &str) -> bool {
        let Some(count) = self.count(name) else {
            return false;
        };
        self.faults.iter().any(|fault| {
            matches!(&fault.at, FaultPoint::Callback(other) if other == name) && fault.is_due(count)
        })
    }

    /// Increments a counter and returns it; `None` if there are no faults.
    fn count(&mut self, point: &str) -> Option<u32> {
        if self.faults.is_empty() {
            return None;
        }
        let count = self.counts.entry(point.to_owned()).or_default();
        *count = count.saturating_add(1);
        Some(*count)
    }
}

impl Fault {
    fn is_due(&self, count: u32) -> bool {
        self.occurrence == 0 || self.occurrence == count
    }
}
