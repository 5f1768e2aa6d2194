//! Reads the facts about the connection from sources that no header can change.

use fluxlit_policy::{ConnectionFacts, Peer, Policy};

use crate::host::{Attribute, Host};

/// The text with the facts about a connection, if the listener has recorded them.
pub(crate) struct Recorded<'h, H: Host + 'h>(Option<Option<H::Bytes<'h>>>);

impl<'h, H: Host> Recorded<'h, H> {
    /// Reads the text, if the policy has a key for it.
    pub(crate) fn read(host: &'h H, policy: &Policy) -> Self {
        Self(
            policy
                .connection_facts_key()
                .map(|key| host.filter_state(key)),
        )
    }

    /// Returns the facts. What the text does not tell is read from the connection itself, except the peer: an invalid text
    /// makes it unknown.
    pub(crate) fn facts<'a>(
        &'a self,
        host: &'h H,
        policy: &Policy,
        attribute: &'a mut Option<H::Bytes<'h>>,
    ) -> ConnectionFacts<'a> {
        let facts = self.0.as_ref().map(|text| {
            text.as_ref()
                .and_then(|text| ConnectionFacts::parse(text.as_ref()))
        });
        let peer = match facts {
            Some(facts) => facts.map_or(Peer::Unknown, |facts| facts.peer),
            None => read_peer(host, policy.peer_filter_state_key()),
        };
        let facts = facts.flatten();
        let mut identity = facts.and_then(|facts| facts.identity);
        // It is not recorded before the handshake.
        if identity.is_none() && policy.needs_identity() {
            *attribute = read_identity(host);
            identity = attribute.as_ref().map(AsRef::as_ref);
        }
        ConnectionFacts {
            peer,
            tls: facts.map_or_else(|| is_tls(host), |facts| facts.tls),
            identity,
        }
    }
}

/// Reads the direct peer.
///
/// With a key, only the filter state that the listener's network-level `set_filter_state` recorded is used. Without a key,
/// Envoy's `source.address` is used if it is provably the direct peer, see [`Peer::from_source_address`].
fn read_peer<H: Host>(host: &H, filter_state_key: Option<&str>) -> Peer {
    match filter_state_key {
        Some(key) => host.filter_state(key).map_or(Peer::Unknown, |text| {
            Peer::from_recorded_address(text.as_ref())
        }),
        None => host
            .attribute(Attribute::SourceAddress)
            .map_or(Peer::Unknown, |text| {
                Peer::from_source_address(text.as_ref())
            }),
    }
}

/// Reads the URI name of a client certificate that Envoy has verified. Trust by identity must not be configured for an
/// Envoy that accepts certificates it cannot verify (`ACCEPT_UNTRUSTED`).
fn read_identity<H: Host>(host: &H) -> Option<H::Bytes<'_>> {
    host.is_mutual_tls()
        .then(|| host.attribute(Attribute::UriName))
        .flatten()
        .filter(|name| !name.as_ref().is_empty())
}

/// Returns true if the connection to the listener is TLS: only Envoy's own TLS transport socket sets the version. The client
/// controls `:scheme` and X-Forwarded-Proto.
fn is_tls<H: Host>(host: &H) -> bool {
    host.attribute(Attribute::TlsVersion).is_some()
}
