//! Defines what a case expects. Only the keys that it has are compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::format::Level;
use crate::input::is_default;

/// Fields by name, each with exactly these lines in order; with an empty list the field must be absent.
pub type Headers = BTreeMap<String, Vec<String>>;

/// Fields by name, each with a regular expression for a whole line.
pub type Matches = BTreeMap<String, String>;

/// The request that the upstream must receive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamExpectation {
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The request target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The `Host` field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Fields by name, in lower case.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Headers,
    /// Fields by name, with a regular expression that one of their lines must match.
    #[serde(skip_serializing_if = "is_default")]
    pub matches: Matches,
    /// Fields by name, with a regular expression that none of their lines may match.
    #[serde(skip_serializing_if = "is_default")]
    pub unlike: Matches,
    /// Names of fields, once for each line: the order in which these lines must arrive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// The whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A file with the whole body, relative to the case file; in place of `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_file: Option<String>,
    /// A regular expression that the whole body must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_matches: Option<String>,
    /// Trailer fields by name.
    #[serde(skip_serializing_if = "is_default")]
    pub trailers: Headers,
}

/// The response that the client must receive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DownstreamExpectation {
    /// The status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Fields by name, in lower case.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Headers,
    /// Fields by name, with a regular expression that one of their lines must match.
    #[serde(skip_serializing_if = "is_default")]
    pub matches: Matches,
    /// Fields by name, with a regular expression that none of their lines may match.
    #[serde(skip_serializing_if = "is_default")]
    pub unlike: Matches,
    /// Names of fields, once for each line: the order in which these lines must arrive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// The whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A file with the whole body, relative to the case file; in place of `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_file: Option<String>,
    /// A regular expression that the whole body must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_matches: Option<String>,
    /// Trailer fields by name.
    #[serde(skip_serializing_if = "is_default")]
    pub trailers: Headers,
}

/// The local reply that the filter must send, as it is passed to the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ReplyExpectation {
    /// The callback that sends it, without `proxy_on_`, such as `response_body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub during: Option<String>,
    /// The response code details for the access log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// The gRPC status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
}

/// A line that must or must not be logged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LogExpectation {
    /// The level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The whole text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A regular expression for the whole text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// True if no such line may be logged.
    #[serde(skip_serializing_if = "is_default")]
    pub absent: bool,
}

/// A call-out that the filter must make.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CallExpectation {
    /// The name of the cluster.
    pub upstream: String,
    /// Fields by name, pseudo-headers included.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Headers,
    /// The whole body, or the concatenated gRPC messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The timeout in milliseconds; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The state that is expected after all exchanges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Finally {
    /// Milliseconds that pass before the comparison.
    #[serde(skip_serializing_if = "is_default")]
    pub after_ms: u64,
    /// Metrics by name, with their values.
    #[serde(skip_serializing_if = "is_default")]
    pub metrics: BTreeMap<String, MetricExpectation>,
    /// Lines that the plugin's own context must or must not log: at its start, in ticks, for queues and call-outs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogExpectation>,
    /// Shared data by key, with their values.
    #[serde(skip_serializing_if = "is_default")]
    pub shared_data: BTreeMap<String, String>,
    /// Shared queues with their remaining messages, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<Queue>,
    /// The VM of the tested plugin must have failed, for example in a tick, with a message that contains this text. A stream
    /// that must fail is defined in its exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// The expected metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum MetricExpectation {
    /// The value, whatever the kind.
    Value(u64),
    /// The kind and the value.
    Typed {
        /// The kind.
        kind: MetricKind,
        /// The count of a counter, the level of a gauge, the last sample of a histogram.
        value: u64,
    },
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// A count that only grows.
    Counter,
    /// A level that rises and falls.
    Gauge,
    /// A distribution of samples.
    Histogram,
}

/// A shared queue with messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// The queue's name.
    pub name: String,
    /// The `vm_id` to which it belongs; by default that of the tested plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<String>,
    /// The messages, oldest first.
    pub messages: Vec<String>,
}
