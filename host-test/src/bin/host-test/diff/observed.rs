//! Contains what a case was observed to do in Envoy.

use std::collections::BTreeMap;
use std::time::Duration;

use host_test::event::{LogLine, Message};

/// What was observed of an exchange in Envoy.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    /// The request that the upstream received.
    pub(super) upstream: Option<Message>,
    /// The response that the client received.
    pub(super) downstream: Option<Message>,
    /// The calls that each service received.
    pub(super) calls: Vec<(String, Vec<Message>)>,
    /// Envoy's response code details; `None` if the access log has none.
    pub(super) details: Option<String>,
    /// True if the request reached the filters.
    pub(super) is_reached: bool,
    /// The values of the filter state that are compared, by key; `-` for a missing one.
    pub(super) filter_state: BTreeMap<String, String>,
    /// What the filters logged meanwhile; empty if the case expects no log lines.
    pub(super) logs: Vec<LogLine>,
    /// The time from the request to the end of the response.
    pub(super) elapsed: Duration,
}

/// The result of a case in Envoy.
#[derive(Debug, Clone, Default)]
pub(super) struct EnvoyRun {
    pub(super) exchanges: Vec<Observed>,
    /// What the filters have logged since they started; empty if the case expects no log lines.
    pub(super) logs: Vec<LogLine>,
    pub(super) metrics_at_start: Metrics,
    pub(super) metrics: Metrics,
}

/// Counters and gauges by name.
pub(super) type Metrics = BTreeMap<String, u64>;
