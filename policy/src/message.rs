//! Defines the facts about a request and a response that a host passes to the policy.

use crate::header::Header;
use crate::peer::Peer;

/// The facts about a request, read by the host from its own connection and from the message.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The other end of the connection.
    pub peer: Peer,
    /// The URI name (SPIFFE id) of the peer's client certificate, if the host itself has verified it.
    pub identity: Option<&'a [u8]>,
    /// True after an internal redirect of the proxy: this policy has already processed the request, so its headers are the
    /// policy's own. A client cannot cause this.
    pub is_reentry: bool,
    /// True if the connection to the listener is TLS, as the host itself knows; never taken from a header.
    pub tls: bool,
    /// The method.
    pub method: &'a [u8],
    /// The request target as received, or `:path`.
    pub target: &'a [u8],
    /// The `Host` field, or `:authority`.
    pub host: Option<&'a [u8]>,
    /// The field lines in wire order, without `Host` and pseudo-headers.
    pub headers: &'a [Header<'a>],
}

/// The facts about a request that the host could not parse, such as one without a valid head.
#[derive(Debug, Clone, Copy)]
pub struct UnparsedRequest<'a> {
    /// The other end of the connection.
    pub peer: Peer,
    /// True if the connection to the listener is TLS.
    pub tls: bool,
    /// The host, if it could be parsed.
    pub host: Option<&'a [u8]>,
    /// The field lines that could be parsed, without `Host` and pseudo-headers.
    pub headers: &'a [Header<'a>],
}

/// The facts about a response.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// The status.
    pub status: u16,
    /// The field lines in wire order, without pseudo-headers.
    pub headers: &'a [Header<'a>],
}
