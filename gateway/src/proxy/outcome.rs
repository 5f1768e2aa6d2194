//! Describes how an exchange ended.

use std::time::Instant;

use crate::observe::Ending;
use crate::upstream::pool::Connection;

/// How an exchange ended.
pub(crate) enum Outcome {
    /// The response is complete, and the client's connection may carry another request.
    Complete { ending: Ending, at: Instant },
    /// The response is incomplete or missing, so the client's connection must be closed, or the stream reset.
    Incomplete(Ending),
    /// Both sides have switched to WebSocket.
    Tunnel(Box<Connection>),
}
