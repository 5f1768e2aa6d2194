//! Defines the peer of a connection and the list of trusted peers.
//!
//! Trust depends on the peer alone: nothing in a header can make a peer trusted. A peer whose address is unknown is not
//! trusted, whatever the list says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::address;
use crate::config_error::ConfigError;

/// The other end of the connection, before any header or PROXY protocol is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An IP connection from this address.
    Ip(IpAddr),
    /// A Unix socket.
    Unix,
    /// A connection whose peer the host cannot determine; never trusted.
    Unknown,
}

impl Peer {
    /// Parses Envoy's `source.address` attribute: `192.0.2.1:4711`, `[2001:db8::1]:4711`, a socket path.
    ///
    /// # Security
    ///
    /// Envoy replaces this attribute by an address from `X-Forwarded-For` unless the connection manager has
    /// `use_remote_address: true` and no trusted hops. An address taken from a header has port 0, so port 0, a missing
    /// port and every invalid text mean [`Peer::Unknown`].
    pub fn from_source_address(text: &[u8]) -> Self {
        match text {
            [b'/' | b'@', ..] => Self::Unix,
            _ => match split_port(text) {
                Some((address, Some(1..))) => Self::from_bare(address),
                _ => Self::Unknown,
            },
        }
    }

    /// Parses what the operator configured Envoy to record about the connection: an address with or without port, or a
    /// socket path. Unlike [`Peer::from_source_address`] it accepts port 0, because no header can have set this value.
    pub fn from_recorded_address(text: &[u8]) -> Self {
        match text {
            [b'/' | b'@', ..] => Self::Unix,
            _ => split_port(text).map_or(Self::Unknown, |(address, _)| Self::from_bare(address)),
        }
    }

    /// Returns the address of an IP peer, an IPv4-mapped one as IPv4.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.to_canonical()),
            Self::Unix | Self::Unknown => None,
        }
    }

    fn from_bare(address: &[u8]) -> Self {
        address::parse_bare(address).map_or(Self::Unknown, Self::Ip)
    }
}

fn split_port(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    if let Some((address, rest)) = address::split_brackets(text) {
        return match rest {
            [] => Some((address, None)),
            [b':', port @ ..] => Some((address, Some(address::parse_port(port)?))),
            _ => None,
        };
    }
    let mut parts = text.splitn(3, |octet| *octet == b':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(address), Some(port), None) => Some((address, Some(address::parse_port(port)?))),
        _ => Some((text, None)),
    }
}

/// The peers whose forwarded headers are trusted.
///
/// The networks are stored as merged, sorted ranges, so that a look-up costs nearly the same for a few networks as for a
/// thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TrustedPeers {
    any: bool,
    unix: bool,
    ipv4: Vec<(Ipv4Addr, Ipv4Addr)>,
    ipv6: Vec<(Ipv6Addr, Ipv6Addr)>,
}

impl TrustedPeers {
    /// Parses the items of `forwarded_allow_ips`; also returns those that cover a whole address family.
    pub(crate) fn parse(items: &[String], errors: &mut Vec<ConfigError>) -> (Self, Vec<String>) {
        let mut trusted = Self::default();
        let mut broad = Vec::new();
        if items.len() > MAX_ENTRIES {
            errors.push(ConfigError::TooManyEntries { count: items.len() });
            return (trusted, broad);
        }
        let size: usize = items.iter().map(String::len).sum();
        if size > MAX_SIZE {
            errors.push(ConfigError::ListTooLong { size });
            return (trusted, broad);
        }
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            match Entry::parse(item.trim_matches([' ', '\t'])) {
                Ok(Entry::Any) if items.len() > 1 => errors.push(ConfigError::WildcardNotAlone),
                Ok(Entry::Any) => {
                    trusted.any = true;
                    broad.push("*".to_owned());
                }
                Ok(Entry::Unix) => trusted.unix = true,
                Ok(Entry::Network(network)) => {
                    if network.prefix_len() == 0 {
                        broad.push(item.clone());
                    }
                    match network {
                        IpNet::V4(network) => ipv4.push(network),
                        IpNet::V6(network) => ipv6.push(network),
                    }
                }
                Err(EntryError::Empty) => errors.push(ConfigError::EmptyItem {
                    position: index.saturating_add(1),
                }),
                Err(EntryError::HostBits { network, host }) => errors.push(ConfigError::HostBits {
                    item: item.clone(),
                    network,
                    host,
                }),
                Err(EntryError::HostName) => {
                    errors.push(ConfigError::HostName { item: item.clone() });
                }
                Err(EntryError::Mixed) => {
                    errors.push(ConfigError::MixedFamilies { item: item.clone() });
                }
                Err(EntryError::NotAnAddress(reason)) => errors.push(ConfigError::NotAnAddress {
                    item: item.clone(),
                    reason,
                }),
                Err(EntryError::UnixPath) => errors.push(ConfigError::UnixPath),
            }
        }
        trusted.ipv4 = Ipv4Net::aggregate(&ipv4)
            .iter()
            .map(|network| (network.network(), network.broadcast()))
            .collect();
        trusted.ipv6 = Ipv6Net::aggregate(&ipv6)
            .iter()
            .map(|network| (network.network(), network.broadcast()))
            .collect();
        trusted.ipv4.sort_unstable();
        trusted.ipv6.sort_unstable();
        (trusted, broad)
    }

    /// Returns true if `peer` may name the client.
    pub(crate) fn contains_peer(&self, peer: Peer) -> bool {
        match peer {
            Peer::Ip(address) => self.contains(address),
            Peer::Unix => self.any || self.unix,
            Peer::Unknown => false,
        }
    }

    /// Returns true if the hop at `address` may name the hop before it.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.any
            || match address.to_canonical() {
                IpAddr::V4(address) => within(&self.ipv4, address),
                IpAddr::V6(address) => within(&self.ipv6, address),
            }
    }
}

fn within<A: Ord + Copy>(ranges: &[(A, A)], address: A) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after
        .checked_sub(1)
        .and_then(|index| ranges.get(index))
        .is_some_and(|(_, last)| address <= *last)
}

enum Entry {
    Any,
    Network(IpNet),
    Unix,
}

enum EntryError {
    Empty,
    HostBits { network: String, host: String },
    HostName,
    Mixed,
    NotAnAddress(&'static str),
    UnixPath,
}

impl Entry {
    fn parse(item: &str) -> Result<Self, EntryError> {
        match item {
            "" => return Err(EntryError::Empty),
            "*" => return Ok(Self::Any),
            "unix:" => return Ok(Self::Unix),
            _ if item.starts_with("unix:") => return Err(EntryError::UnixPath),
            _ if item.starts_with('/') => {
                return Err(EntryError::NotAnAddress(
                    "a path is not an address; write unix: for the peers of a Unix socket listener",
                ));
            }
            _ => {}
        }
        let (text, prefix) = match item.split_once('/') {
            Some((text, prefix)) => (text, Some(prefix)),
            None => (item, None),
        };
        let Ok(address) = text.parse::<IpAddr>() else {
            return Err(Self::reject_address(text));
        };
        let family_bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => family_bits,
            Some(prefix) => parse_prefix(prefix)
                .filter(|prefix| *prefix <= family_bits)
                .ok_or(EntryError::NotAnAddress(
                    "the prefix length must be a whole number from 0 to 32 (IPv4) or 128 (IPv6)",
                ))?,
        };
        let (address, prefix) = match address {
            IpAddr::V6(mapped) => match (mapped.to_ipv4_mapped(), prefix.checked_sub(96)) {
                (Some(address), Some(prefix)) => (IpAddr::V4(address), prefix),
                // Such a network extends beyond the mapped range, so it is neither IPv4 nor IPv6.
                (Some(_), None) => return Err(EntryError::Mixed),
                (None, _) => (address, prefix),
            },
            IpAddr::V4(_) => (address, prefix),
        };
        let network = IpNet::new(address, prefix)
            .map_err(|_| EntryError::NotAnAddress("the prefix length is too long"))?;
        if network.trunc() != network {
            return Err(EntryError::HostBits {
                network: network.trunc().to_string(),
                host: address.to_string(),
            });
        }
        Ok(Self::Network(network))
    }

    fn reject_address(text: &str) -> EntryError {
        let reason = if text.contains('%') {
            "a zone is not allowed; a peer's zone is ignored"
        } else if text.starts_with('[') {
            "write IPv6 addresses without brackets"
        } else if text.contains('*') {
            "a pattern is not allowed; write a network such as 10.0.0.0/8"
        } else if text.matches(':').count() == 1 && text.contains('.') {
            "a port is not allowed"
        } else if !text.is_ascii() || text.contains(|c: char| c.is_ascii_whitespace()) {
            "only digits, letters, dots and colons may occur in an address"
        } else if text.contains(':') {
            "it is not an IPv6 address"
        } else if text.starts_with(|c: char| c.is_ascii_digit()) {
            "IPv4 is written as four decimal numbers from 0 to 255 without leading zeros"
        } else {
            return EntryError::HostName;
        };
        EntryError::NotAnAddress(reason)
    }
}

/// Parses a prefix length: digits only, without sign or leading zero.
fn parse_prefix(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let is_canonical = text == "0" || !text.starts_with('0');
    (digits && is_canonical)
        .then(|| text.parse().ok())
        .flatten()
}

/// The maximum number of entries of `forwarded_allow_ips`.
pub(crate) const MAX_ENTRIES: usize = 1024;

/// The maximum length of `forwarded_allow_ips` in bytes.
pub(crate) const MAX_SIZE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_parse(item: &str, want: &str) {
        let mut errors = Vec::new();
        let (trusted, _) = TrustedPeers::parse(&[item.to_owned()], &mut errors);
        let got = errors.first().map_or_else(
            || {
                format!(
                    "{:?} {:?} {} {}",
                    trusted.ipv4, trusted.ipv6, trusted.unix, trusted.any
                )
            },
            |error| error.code().to_owned(),
        );
        assert_eq!(got, want, "{item:?}");
    }

    #[test]
    fn each_invalid_item_has_its_code() {
        for (item, code) in [
            ("", "E04"),
            ("10.0.0.1/8", "E05"),
            ("::ffff:188.0.2.128/112", "E05"),
            ("localhost", "E06"),
            ("foo", "E06"),
            ("abc", "E06"),
            ("proxy.internal.example", "E06"),
            ("private_ranges", "E06"),
            ("10.0.*.*", "E07"),
            ("1.1.1.nope", "E07"),
            ("256.1.1.1", "E07"),
            ("10.0.1", "E07"),
            ("0127.0.0.1", "E07"),
            ("0x7f.0.0.1", "E07"),
            ("2130706433", "E07"),
            ("10.0.0.1:8080", "E07"),
            ("[::1]", "E07"),
            ("fe80::1%eth0", "E07"),
            ("10.0.0.0/33", "E07"),
            ("::/129", "E07"),
            ("10.0.0.0/-1", "E07"),
            ("10.0.0.0/+8", "E07"),
            ("10.0.0.0/08", "E07"),
            ("10.0.0.0/", "E07"),
            ("10.0.0.0/0.255.255.255", "E07"),
            ("10.0.0.1\n10.0.0.2", "E07"),
            ("１０.0.0.1", "E07"),
            ("/run/app.sock", "E07"),
            ("unix:/run/app.sock", "E08"),
            ("::ffff:0:0/90", "E09"),
        ] {
            check_parse(item, code);
        }
    }

    #[test]
    fn an_error_names_what_is_wrong_with_an_address() {
        for (item, want) in [
            ("fe80::xyz", "it is not an IPv6 address"),
            ("host:80", "it is not an IPv6 address"),
            ("host.example:80", "a port is not allowed"),
            ("fe80::1%eth0", "a zone is not allowed"),
            ("[::1]", "without brackets"),
            ("10.*", "a pattern is not allowed"),
            ("a b", "only digits, letters, dots and colons"),
            ("b\u{fc}cher", "only digits, letters, dots and colons"),
            ("1host", "four decimal numbers"),
        ] {
            let mut errors = Vec::new();
            TrustedPeers::parse(&[item.to_owned()], &mut errors);
            let text = errors[0].to_string();
            assert!(text.contains(want), "{item}: {text}");
        }
    }

    #[test]
    fn the_list_is_limited_by_entries_and_by_size() {
        let code = |items: &[String]| {
            let mut errors = Vec::new();
            TrustedPeers::parse(items, &mut errors);
            errors.first().map(ConfigError::code)
        };
        let addresses = |count: usize| -> Vec<String> {
            (0..count)
                .map(|index| {
                    Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(index).unwrap()).to_string()
                })
                .collect()
        };
        assert_eq!(code(&addresses(MAX_ENTRIES)), None);
        assert_eq!(code(&addresses(MAX_ENTRIES + 1)), Some("E10"));
        let padded = |size: usize| vec![[&" ".repeat(size - 8), "10.0.0.1"].concat()];
        assert_eq!(code(&padded(64 * 1024)), None);
        assert_eq!(code(&padded(64 * 1024 + 1)), Some("E10"));
    }

    #[test]
    fn a_mapped_network_is_the_ipv4_network() {
        check_parse(
            "::ffff:188.0.0.0/112",
            "[(188.0.0.0, 188.0.255.255)] [] false false",
        );
        check_parse(
            "::ffff:bc15:0006",
            "[(188.21.0.6, 188.21.0.6)] [] false false",
        );
    }

    #[test]
    fn a_source_address_needs_a_nonzero_port() {
        for (text, want) in [
            ("127.0.0.1:37164", Peer::Ip("127.0.0.1".parse().unwrap())),
            ("[::1]:33266", Peer::Ip("::1".parse().unwrap())),
            ("[::ffff:10.0.0.1]:5", Peer::Ip("10.0.0.1".parse().unwrap())),
            ("[fe80::1%4]:5", Peer::Ip("fe80::1".parse().unwrap())),
            ("10.1.2.3:0", Peer::Unknown),
            ("10.1.2.3", Peer::Unknown),
            ("[2001:db8::1]:0", Peer::Unknown),
            ("2001:db8::1", Peer::Unknown),
            ("envoy://internal_client_address/", Peer::Unknown),
            ("", Peer::Unknown),
            ("/run/envoy.sock", Peer::Unix),
            ("@abstract", Peer::Unix),
        ] {
            assert_eq!(Peer::from_source_address(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn a_recorded_address_needs_no_port() {
        for (text, want) in [
            ("10.1.2.3", Peer::Ip("10.1.2.3".parse().unwrap())),
            ("10.1.2.3:0", Peer::Ip("10.1.2.3".parse().unwrap())),
            ("2001:db8::1", Peer::Ip("2001:db8::1".parse().unwrap())),
            ("[2001:db8::1]:7", Peer::Ip("2001:db8::1".parse().unwrap())),
            ("[2001:db8::1]", Peer::Ip("2001:db8::1".parse().unwrap())),
            ("/run/envoy.sock", Peer::Unix),
            ("@abstract", Peer::Unix),
            ("[2001:db8::1]x", Peer::Unknown),
            ("10.1.2.3:x", Peer::Unknown),
            ("-", Peer::Unknown),
        ] {
            assert_eq!(Peer::from_recorded_address(text.as_bytes()), want, "{text}");
        }
    }
}
