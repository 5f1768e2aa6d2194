//! Defines the connections of a case: what happens on them and what is expected.

use serde::{Deserialize, Serialize};

use crate::check::check_logs;
use crate::expectation::LogExpectation;
use crate::input::{Peer, Property, is_default};
use crate::latin1;

/// A connection through a network filter, and what is expected of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Connection {
    /// The peer of the connection.
    #[cfg_attr(test, schemars(with = "String"))]
    #[serde(skip_serializing_if = "Peer::is_default")]
    pub peer: Peer,
    /// True if the connection is TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: bool,
    /// Further properties of the connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
    /// The events on the connection, in order. It is opened before the first and closed after the last.
    pub events: Vec<ConnectionEvent>,
    /// All data that the filter must forward to the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// All data that the filter must forward to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downstream: Option<String>,
    /// Lines that the connection's callbacks must or must not log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogExpectation>,
    /// The filter must still hold data at the end.
    #[serde(skip_serializing_if = "is_default")]
    pub paused: bool,
    /// The filter must close the connection.
    #[serde(skip_serializing_if = "is_default")]
    pub reset: bool,
    /// The filter must trap, with a message that contains this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// An event on a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConnectionEvent {
    /// This number of milliseconds passes.
    AfterMs(u64),
    /// The client sends this.
    Downstream(String),
    /// The client sends this and then ends its side.
    DownstreamEnd(String),
    /// The upstream sends this.
    Upstream(String),
    /// The upstream sends this and then ends its side.
    UpstreamEnd(String),
    /// The connection to the client is closed.
    Close(Close),
}

/// The side that closes a connection.
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
