//! Defines what a stream needs from the host that it runs in.

use std::time::Duration;

use fluxlit_policy::{Header, Probe, ProbeOutcome};

/// The functions of Envoy that a stream uses.
///
/// What is read is borrowed from the host, and each write borrows it exclusively: so bytes that lie in Envoy's memory
/// cannot be used after a write, which may free them.
pub trait Host {
    /// Bytes that were read: a copy, or a part of Envoy's memory.
    type Bytes<'a>: AsRef<[u8]>
    where
        Self: 'a;

    /// A header map that was read.
    type Fields<'a>: Fields
    where
        Self: 'a;

    /// Measures the time for warnings.
    type Clock: Clock;

    /// A counter that the host has defined.
    type Counter;

    /// True if Envoy hands a reply of [`Self::send_reply`] to the response callback of the same stream. If not, the reply is
    /// edited before it is sent.
    const SEES_OWN_REPLIES: bool;

    /// Reads a whole header map; an empty one if the host has no such map.
    fn fields(&self, map: Map) -> Self::Fields<'_>;

    /// Reads an attribute of the connection or the request; `None` if the host does not have it.
    fn attribute(&self, attribute: Attribute) -> Option<Self::Bytes<'_>>;

    /// Returns true if the connection to the listener is TLS with a client certificate.
    fn is_mutual_tls(&self) -> bool;

    /// Reads filter state that is text; `None` if there is none under this key. The state must be the one that Envoy's own
    /// filters store, so that no other plugin can replace it.
    fn filter_state(&self, key: &str) -> Option<Self::Bytes<'_>>;

    /// Adds a line after those that the field already has. Returns true if the host accepted it.
    fn add(&mut self, map: Map, name: &str, value: &[u8]) -> bool;

    /// Replaces all lines of a field by one. Returns true if the host accepted it.
    fn replace(&mut self, map: Map, name: &str, value: &[u8]) -> bool;

    /// Removes all lines of a field. Returns true if the host accepted it.
    fn remove(&mut self, map: Map, name: &str) -> bool;

    /// Stores text as [`CLIENT_KEY`](crate::CLIENT_KEY), where it lives as long as the request, including internal
    /// redirects. A failure is ignored: without it, no guarded route matches the request.
    fn store_client(&mut self, text: &[u8]);

    /// Reads what [`Self::store_client`] has stored for this request: in this pass of the filter chain, or in an earlier one
    /// that ended with an internal redirect.
    fn stored_client(&self) -> Option<Self::Bytes<'_>>;

    /// Makes Envoy select the route again for the request headers as they are now, although nothing in them was written.
    fn select_route_again(&mut self);

    /// True if each write to the request headers makes Envoy select the route again.
    const WRITES_SELECT_ROUTE: bool;

    /// Sends a response in place of the upstream's. Returns true if the host accepted it.
    fn send_reply(&mut self, response: &Response<'_>) -> bool;

    /// Adds to a counter.
    fn count(&self, counter: &Self::Counter, by: u32);

    /// Decides whether a request for the decision record, whose MAC is right, is answered; see
    /// [`ProbeGuard`](fluxlit_policy::ProbeGuard). All workers of the process must use one guard.
    fn admit(&self, probe: &Probe) -> ProbeOutcome;
}

/// A header map that was read, with its pseudo-headers.
pub trait Fields {
    /// Iterates over the lines in wire order. Names are in lower case.
    fn iter(&self) -> impl Iterator<Item = Header<'_>>;
}

/// Measures time.
pub trait Clock {
    /// Returns the time since any fixed moment, to the second.
    fn now(&self) -> Duration;
}

/// A header map of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// The headers of the request.
    RequestHeaders,
    /// The trailers of the request.
    RequestTrailers,
    /// The headers of the response.
    ResponseHeaders,
}

/// An attribute of the connection or the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// `request.protocol`, such as `HTTP/1.1`.
    Protocol,
    /// `source.address`, which is not always the peer; see
    /// [`Peer::from_source_address`](fluxlit_policy::Peer::from_source_address).
    SourceAddress,
    /// `connection.tls_version`; absent if the connection to the listener is not TLS.
    TlsVersion,
    /// `connection.uri_san_peer_certificate`: the first URI name of the client certificate.
    UriName,
}

/// A response that is sent in place of the upstream's.
#[derive(Debug)]
pub struct Response<'a> {
    /// The status.
    pub status: u16,
    /// The fields, without those that Envoy adds itself, such as `content-length`.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// The content.
    pub body: &'a [u8],
}
