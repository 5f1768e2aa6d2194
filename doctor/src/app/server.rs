//! Names the server that the checks talk to.

use std::net::SocketAddr;

/// A server on this machine or in its network.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// `host:port` for the Host field.
    pub(crate) authority: String,
}
