//! Reads the facts about the connection from sources that no header can change.

use fluxlit_policy::Peer;

use crate::host::{Attribute, Host};

/// Reads the direct peer.
///
/// With a key, only the filter state that the listener's network-level `set_filter_state` recorded is used. Without a key,
/// Envoy's `source.address` is used if it is provably the direct peer, see [`Peer::from_source_address`].
pub(crate) fn read_peer<H: Host>(host: &H, filter_state_key: Option<&str>) -> Peer {
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
pub(crate) fn read_identity<H: Host>(host: &H) -> Option<H::Bytes<'_>> {
    host.is_mutual_tls()
        .then(|| host.attribute(Attribute::UriName))
        .flatten()
        .filter(|name| !name.as_ref().is_empty())
}

/// Returns true if the connection to the listener is TLS: only Envoy's own TLS transport socket sets the version. The client
/// controls `:scheme` and X-Forwarded-Proto.
pub(crate) fn is_tls<H: Host>(host: &H) -> bool {
    host.attribute(Attribute::TlsVersion).is_some()
}
