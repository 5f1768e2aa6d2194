//! Describes how an exchange ended.

use crate::observe::Ending;
use crate::upstream::pool::Connection;

/// How an exchange ended.
pub(crate) enum Outcome {
    /// The response is complete.
    Complete(Ending),
    /// The response is incomplete or missing.
    Incomplete(Ending),
    /// Both sides have switched to WebSocket.
    Tunnel(Box<Connection>),
}

impl Outcome {
    /// Returns true if the client's connection may carry another request. Otherwise it must be closed, or the stream reset.
    pub(crate) fn keeps_connection(&self) -> bool {
        matches!(self, Self::Complete(_))
    }
}
