//! What must come of a case? Only what is named is compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::format::Level;
use crate::input::is_default;

/// Each named field with exactly these lines in order; an empty list means that the field must be absent.
pub type Headers = BTreeMap<String, Vec<String>>;

/// Each named field with a regular expression that one of its lines matches as a whole.
pub type Matches = BTreeMap<String, String>;

/// What the upstream must receive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
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
    /// Fields by name, with a regular expression for one of their lines.
    #[serde(skip_serializing_if = "is_default")]
    pub matches: Matches,
    /// Fields by name, with a regular expression that none of their lines matches.
    #[serde(skip_serializing_if = "is_default")]
    pub unlike: Matches,
    /// Names of fields, and for each of their lines once more: in this order the lines must come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// The whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A file with the whole body, relative to the case file. Read with the case file, in place of `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_file: Option<String>,
    /// A regular expression for the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_matches: Option<String>,
    /// Trailer fields by name.
    #[serde(skip_serializing_if = "is_default")]
    pub trailers: Headers,
}

/// What the client must get.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Downstream {
    /// The status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Fields by name, in lower case.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Headers,
    /// Fields by name, with a regular expression for one of their lines.
    #[serde(skip_serializing_if = "is_default")]
    pub matches: Matches,
    /// Fields by name, with a regular expression that none of their lines matches.
    #[serde(skip_serializing_if = "is_default")]
    pub unlike: Matches,
    /// Names of fields, and for each of their lines once more: in this order the lines must come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// The whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A file with the whole body, relative to the case file. Read with the case file, in place of `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_file: Option<String>,
    /// A regular expression for the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_matches: Option<String>,
    /// Trailer fields by name.
    #[serde(skip_serializing_if = "is_default")]
    pub trailers: Headers,
}

/// How the filter's own answer must look as it is passed to the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ReplyExpectation {
    /// What the filter was asked when it answered: a callback without its `proxy_on_`, such as `response_body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub during: Option<String>,
    /// The reason for the access log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// The gRPC status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
}

/// A line that must be logged, or must not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LogExpectation {
    /// Its level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Its whole text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A regular expression for its whole text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// No line may be like this.
    #[serde(skip_serializing_if = "is_default")]
    pub absent: bool,
}

/// A call-out that the filter must make.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CallExpectation {
    /// The upstream's name.
    pub upstream: String,
    /// Fields by name, pseudo-headers included.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Headers,
    /// The whole body, or the gRPC messages one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The time-out in milliseconds; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What must be so when all exchanges are over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Finally {
    /// Milliseconds that pass before.
    #[serde(skip_serializing_if = "is_default")]
    pub after_ms: u64,
    /// Metrics by name, with their values.
    #[serde(skip_serializing_if = "is_default")]
    pub metrics: BTreeMap<String, MetricExpectation>,
    /// Lines that the plugin itself logged: at its start, in ticks, for queues and call-outs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogExpectation>,
    /// Shared data by key, with their values.
    #[serde(skip_serializing_if = "is_default")]
    pub shared_data: BTreeMap<String, String>,
    /// Shared queues, with the messages that are still in them, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<Queue>,
    /// The VM of the tested plugin must have failed, with a message that contains this text: in a tick, say. Which
    /// stream must fail, its exchange says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// What a metric must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum MetricExpectation {
    /// Its value, whatever it counts.
    Value(u64),
    /// What it counts, and its value.
    Typed {
        /// What it counts.
        kind: MetricKind,
        /// The count of a counter, the level of a gauge, the last sample of a histogram.
        value: u64,
    },
}

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Takes samples.
    Histogram,
}

/// A shared queue with messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// The queue's name.
    pub name: String,
    /// The `vm_id` that it belongs to; the tested plugin's if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<String>,
    /// The messages, the first one to be taken first.
    pub messages: Vec<String>,
}
