//! Decides which peers and hops are trusted to name the client.

use crate::config::AllowIps;
use crate::config_error::{ConfigError, ConfigWarning};
use crate::peer::{Peer, TrustedPeers};

/// Which peers and hops are trusted to name the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) is_on: bool,
    /// Trusted peers and hops.
    pub(crate) peers: TrustedPeers,
    /// URI names of trusted peers, sorted.
    pub(crate) identities: Vec<String>,
    /// The number of trusted hops, where their addresses cannot be known.
    pub(crate) hops: Option<usize>,
}

impl Trust {
    /// Returns true if this peer may name the client. With `trusted_hops`, any peer is trusted, or only those with a listed
    /// identity if identities are listed.
    pub(crate) fn covers(&self, peer: Peer, identity: Option<&[u8]>) -> bool {
        let by_identity = || {
            identity.is_some_and(|identity| {
                self.identities
                    .binary_search_by(|listed| listed.as_bytes().cmp(identity))
                    .is_ok()
            })
        };
        let by_address = || match self.hops {
            Some(_) => self.identities.is_empty() && peer != Peer::Unknown,
            None => self.peers.contains_peer(peer),
        };
        self.is_on && (by_address() || by_identity())
    }
}

/// The settings that decide which peers are trusted.
pub(crate) struct TrustConfig {
    pub(crate) forwarded_allow_ips: Option<AllowIps>,
    pub(crate) trust_any_peer: Option<bool>,
    pub(crate) trust_proxy: Option<bool>,
    pub(crate) trusted_hops: Option<i64>,
    pub(crate) trusted_identities: Option<Vec<String>>,
}

impl TrustConfig {
    /// Builds the trust, and reports what is wrong with the settings.
    pub(crate) fn build(
        self,
        errors: &mut Vec<ConfigError>,
        warnings: &mut Vec<ConfigWarning>,
    ) -> Trust {
        let list = self.forwarded_allow_ips.map(AllowIps::into_items);
        let (peers, broad) = TrustedPeers::parse(list.as_deref().unwrap_or_default(), errors);
        if let Some(item) = broad.first() {
            if self.trust_any_peer == Some(true) {
                warnings.push(ConfigWarning::Broad { item: item.clone() });
            } else {
                errors.push(ConfigError::Broad { item: item.clone() });
            }
        }
        let hops = self.trusted_hops;
        if let Some(hops) = hops
            && !(1..=MAX_HOPS).contains(&hops)
        {
            errors.push(ConfigError::HopsRange { hops });
        }
        if hops.is_some() && list.as_ref().is_some_and(|list| list.len() > broad.len()) {
            errors.push(ConfigError::HopsAndList);
        }
        let is_on = self.trust_proxy == Some(true);
        let names_trusted = list.is_some() || hops.is_some() || self.trusted_identities.is_some();
        let mut identities = Vec::new();
        for value in self.trusted_identities.into_iter().flatten() {
            if is_uri(&value) {
                identities.push(value);
            } else {
                errors.push(ConfigError::Identity { value });
            }
        }
        identities.sort_unstable();
        for (setting, is_set) in [
            ("forwarded_allow_ips", list.is_some()),
            ("trusted_hops", hops.is_some()),
            ("trusted_identities", !identities.is_empty()),
        ] {
            if is_set && !is_on {
                warnings.push(ConfigWarning::ListWithoutTrust { setting });
            }
        }
        if is_on && !names_trusted {
            errors.push(ConfigError::NoTrustedPeer);
        }
        Trust {
            is_on,
            peers,
            identities,
            hops: hops.map(|hops| usize::try_from(hops).unwrap_or_default()),
        }
    }
}

/// Returns true for a URI with a scheme and a non-empty rest, RFC 3986 §3. Wildcards are rejected, because they have no
/// meaning here.
fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet))
            && !rest.is_empty()
            && rest
                .bytes()
                .all(|octet| octet.is_ascii_graphic() && octet != b'*')
    })
}

/// The maximum of `trusted_hops`.
const MAX_HOPS: i64 = 32;
