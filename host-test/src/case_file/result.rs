//! Holds the result of a case under this host.

use std::collections::BTreeMap;

use fluxlit_cases::latin1;

use crate::chain::ChainOutcome;
use crate::event::{LogLine, Message};
use crate::vm::failure::Failure;
use crate::vm::outcome::Outcome;
use crate::vm::shared::Metric;

/// The result of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    /// How the case ended.
    pub ending: Ending,
    /// The outcomes of its connections.
    pub connections: Vec<Outcome>,
    /// For each exchange, the milliseconds for which the filter held its messages.
    pub held_ms: Vec<u64>,
    /// The lines that the plugin's own context logged.
    pub logs: Vec<LogLine>,
    /// The metrics at the end.
    pub metrics: BTreeMap<String, Metric>,
    /// The metrics before the first exchange.
    pub metrics_at_start: BTreeMap<String, Metric>,
    /// True if plugins requested ticks, so that the result depends on how much time passes.
    pub has_ticks: bool,
    /// The values of the shared data that the case names.
    pub shared_data: SharedData,
    /// The messages in each of the queues that the case names, in the case's order.
    pub queues: Queues,
    /// The failure of a VM of the tested plugin, if one failed.
    pub failure: Option<Failure>,
}

/// Values by key; `None` for a key that does not exist.
pub(super) type SharedData = BTreeMap<String, Option<Vec<u8>>>;

/// Messages of queues; `None` for a queue that does not exist.
pub(super) type Queues = Vec<Option<Vec<Vec<u8>>>>;

/// How a case ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// The configuration was rejected with this message.
    Refused(String),
    /// The configuration was accepted, and the exchanges have these outcomes.
    Served(Vec<ChainOutcome>),
}

/// Returns the data that a connection forwarded on one side, as text of a case file.
pub(super) fn forwarded(message: Option<&Message>) -> String {
    message.map_or_else(String::new, |message| latin1::text(&message.body))
}

/// Returns a callback's name as in case files.
pub(super) fn short_name(callback: &str) -> &str {
    callback.strip_prefix("proxy_on_").unwrap_or(callback)
}
