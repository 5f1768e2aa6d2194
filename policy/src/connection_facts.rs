//! Parses what a listener of Envoy has recorded about a connection, as one text.
//!
//! The text is the version of TLS, the address of the peer and the URI name of its certificate, each `-` if there is none,
//! with one space between them: [`ConnectionFacts::FORMAT`]. Reading one text costs Envoy less than reading each fact.
//!
//! # Security
//!
//! The client can influence two of the three: an address in the file system is chosen by the peer of a Unix socket, and a
//! name by whoever has issued its certificate. Neither can be taken for another fact, because a space in them makes
//! more than three parts, with which the whole text is invalid.

use crate::peer::Peer;

/// What a listener has recorded about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionFacts<'a> {
    /// The other end of the connection.
    pub peer: Peer,
    /// True if the connection to the listener is TLS.
    pub tls: bool,
    /// The URI name of the client certificate; `None` if there is none, several, or if it was recorded before the handshake.
    pub identity: Option<&'a [u8]>,
}

impl<'a> ConnectionFacts<'a> {
    /// The format that the listener must use, in Envoy's command operators.
    pub const FORMAT: &'static str =
        "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_PEER_URI_SAN%";

    /// Parses the text; `None` if it does not have this format.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let mut parts = text.split(|octet| *octet == b' ');
        let (tls, address, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let tls = match tls {
            b"-" => false,
            _ if tls.starts_with(b"TLSv") => true,
            _ => return None,
        };
        Some(Self {
            peer: Peer::from_recorded_address(address),
            tls,
            // Envoy joins several names by commas.
            identity: (tls && !matches!(name, b"" | b"-") && !name.contains(&b',')).then_some(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_are_those_that_envoy_has_recorded() {
        let ip = |text: &str| Peer::Ip(text.parse().unwrap());
        let id = Some("spiffe://cluster/gateway");
        for (text, peer, tls, identity) in [
            ("- 192.0.2.1:4711 -", ip("192.0.2.1"), false, None),
            ("TLSv1.3 192.0.2.1:4711 -", ip("192.0.2.1"), true, None),
            (
                "TLSv1.2 [2001:db8::1]:4711 spiffe://cluster/gateway",
                ip("2001:db8::1"),
                true,
                id,
            ),
            ("TLSv1.3 /run/x -", Peer::Unix, true, None),
            ("TLSv1.3 @x spiffe://cluster/gateway", Peer::Unix, true, id),
            (
                "TLSv1.3 x spiffe://cluster/gateway",
                Peer::Unknown,
                true,
                id,
            ),
            ("-  -", Peer::Unknown, false, None),
            ("TLSv1.3 192.0.2.1 ", ip("192.0.2.1"), true, None),
            // Several names.
            (
                "TLSv1.3 192.0.2.1:1 a:b,spiffe://cluster/gateway",
                ip("192.0.2.1"),
                true,
                None,
            ),
            // Without TLS there is no certificate.
            (
                "- 192.0.2.1:1 spiffe://cluster/gateway",
                ip("192.0.2.1"),
                false,
                None,
            ),
        ] {
            let want = ConnectionFacts {
                peer,
                tls,
                identity: identity.map(str::as_bytes),
            };
            assert_eq!(
                ConnectionFacts::parse(text.as_bytes()),
                Some(want),
                "{text}"
            );
        }
    }

    #[test]
    fn a_peer_cannot_write_a_fact_into_its_address_or_its_name() {
        for text in [
            "- /run/x TLSv1.3 spiffe://cluster/gateway -",
            "- /run/x spiffe://cluster/gateway -",
            "- /run/x 10.0.0.1 -",
            "TLSv1.3 @ spiffe://cluster/gateway spiffe://other/gateway",
            "TLSv1.3 192.0.2.1:1 spiffe://other/a spiffe://cluster/gateway",
            "TLSv1.3 192.0.2.1:1 spiffe://other/a ",
            // Without the third part, the address could have two.
            "TLSv1.3 192.0.2.1:1",
            "- 192.0.2.1:1",
            "192.0.2.1:1",
            "192.0.2.1:1 TLSv1.3 -",
            "SSLv3 192.0.2.1:1 -",
            " 192.0.2.1:1 -",
            "",
        ] {
            assert_eq!(ConnectionFacts::parse(text.as_bytes()), None, "{text}");
        }
    }
}
