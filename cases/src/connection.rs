//! What comes over a connection to a network filter, and what must come of it?

use serde::{Deserialize, Serialize};

use crate::check::check_logs;
use crate::expectation::LogExpectation;
use crate::input::{Peer, Property, is_default};
use crate::latin1;

/// A connection, and what must come of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Connection {
    /// The other end of the connection.
    #[cfg_attr(test, schemars(with = "String"))]
    #[serde(skip_serializing_if = "Peer::is_default")]
    pub peer: Peer,
    /// Whether the connection is TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: bool,
    /// What the connection knows beside this.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
    /// What happens on it, in order. It is open before the first, and gone after the last.
    pub events: Vec<ConnectionEvent>,
    /// All that the filter must let pass to the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// All that the filter must let pass to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downstream: Option<String>,
    /// Lines that must be logged while the connection's callbacks run, or must not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogExpectation>,
    /// The filter must hold data back at the end.
    #[serde(skip_serializing_if = "is_default")]
    pub paused: bool,
    /// The filter must close the connection.
    #[serde(skip_serializing_if = "is_default")]
    pub reset: bool,
    /// The filter must trap, with a message that contains this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// Something that happens on a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConnectionEvent {
    /// Milliseconds pass.
    AfterMs(u64),
    /// The client sends this.
    Downstream(String),
    /// The client sends this, and nothing more.
    DownstreamEnd(String),
    /// The upstream sends this.
    Upstream(String),
    /// The upstream sends this, and nothing more.
    UpstreamEnd(String),
    /// The connection to the client is closed.
    Close(Close),
}

/// Who closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Close {
    /// The proxy.
    Local,
    /// The client.
    Remote,
}

impl Connection {
    pub(crate) fn check(&self) -> Result<(), String> {
        for event in &self.events {
            match event {
                ConnectionEvent::Downstream(text)
                | ConnectionEvent::DownstreamEnd(text)
                | ConnectionEvent::Upstream(text)
                | ConnectionEvent::UpstreamEnd(text) => latin1::check(text)?,
                ConnectionEvent::AfterMs(_) | ConnectionEvent::Close(_) => {}
            }
        }
        check_logs(&self.logs)
    }
}
