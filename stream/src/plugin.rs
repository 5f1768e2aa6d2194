//! Holds what all streams of one configuration share.

use fluxlit_policy::Policy;

use crate::counters::Counters;
use crate::host::Host;
use crate::warnings::Warnings;

/// One configured plugin, shared by its streams.
pub struct Plugin<H: Host> {
    pub(crate) policy: Policy,
    pub(crate) counters: Counters<H::Counter>,
    pub(crate) warnings: Warnings<H::Clock>,
}

impl<H: Host> Plugin<H> {
    /// Makes a plugin. `define` makes the counter of a name.
    pub fn new(
        policy: Policy,
        clock: H::Clock,
        define: impl FnMut(&str) -> Option<H::Counter>,
    ) -> Self {
        Self {
            policy,
            counters: Counters::define(define),
            warnings: Warnings::new(clock),
        }
    }

    /// Returns the policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the counters.
    pub fn counters(&self) -> &Counters<H::Counter> {
        &self.counters
    }

    /// Returns the clock that was given to [`Self::new`].
    pub fn clock(&self) -> &H::Clock {
        self.warnings.clock()
    }
}
