//! Holds the outcome of each check of a configuration.

use crate::outcome::Outcome;

/// One outcome for each check.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcomes {
    /// F01.
    pub(crate) peer_source: Outcome,
    /// F02.
    pub(crate) presence: Outcome,
    /// F03.
    pub(crate) failure: Outcome,
    /// F04.
    pub(crate) path: Outcome,
    /// F05.
    pub(crate) live: Outcome,
    /// F06.
    pub(crate) local_replies: Outcome,
    /// F07.
    pub(crate) sockets: Outcome,
    /// F08.
    pub(crate) offline: Outcome,
}

impl Outcomes {
    /// Returns the outcome of the check with this id.
    pub(crate) fn take(&mut self, id: &str) -> Outcome {
        let outcome = match id {
            "F01" => &mut self.peer_source,
            "F02" => &mut self.presence,
            "F03" => &mut self.failure,
            "F04" => &mut self.path,
            "F05" => &mut self.live,
            "F06" => &mut self.local_replies,
            "F07" => &mut self.sockets,
            _ => &mut self.offline,
        };
        std::mem::take(outcome)
    }
}
