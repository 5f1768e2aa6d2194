//! What must come of a case? Only what is named is compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::stimulus::is_default;

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
    /// The whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
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
    /// The whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
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
    /// Its level: `trace`, `debug`, `info`, `warn`, `error` or `critical`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
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
    /// Metrics by name, with their values.
    #[serde(skip_serializing_if = "is_default")]
    pub metrics: BTreeMap<String, u64>,
    /// Lines that the plugin itself logged: at its start, in ticks, for queues and call-outs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogExpectation>,
    /// Shared data by key, with their values.
    #[serde(skip_serializing_if = "is_default")]
    pub shared_data: BTreeMap<String, String>,
}
