//! Parses and formats IP addresses as they appear in header fields.
//!
//! Addresses are compared as numbers and written in one form: RFC 5952 for IPv6, an IPv4-mapped IPv6 address as the
//! IPv4 address that it stands for. Ambiguous text is invalid: octal and short IPv4 are not guessed at, names are not
//! resolved, and the unspecified addresses are rejected. Zones are parsed and dropped, never emitted.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use arrayvec::ArrayString;

/// The text of an address: RFC 5952 for IPv6.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AddressText(ArrayString<MAX_ADDRESS>);

impl AddressText {
    /// Formats an address as `Display` does. `Display` takes ten times as long for an IPv4 address, and this runs for each
    /// request.
    pub(crate) fn of(address: IpAddr) -> Self {
        let mut text = ArrayString::new();
        match address {
            IpAddr::V4(address) => {
                let [first, others @ ..] = address.octets();
                push_number(&mut text, first.into());
                for octet in others {
                    // There is room for every address.
                    let _ = text.try_push('.');
                    push_number(&mut text, octet.into());
                }
            }
            IpAddr::V6(address) => {
                let _ = write!(text, "{address}");
            }
        }
        Self(text)
    }
}

impl Deref for AddressText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AddressText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Parses an address without port or brackets: `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
pub(crate) fn parse_bare(text: &[u8]) -> Option<IpAddr> {
    if text.contains(&b':') {
        return parse_ipv6(text).map(IpAddr::V6).and_then(usable);
    }
    parse_ipv4(text).map(IpAddr::V4).and_then(usable)
}

/// Parses one element of `X-Forwarded-For`: an address, bracketed or not, with or without a port.
pub(crate) fn parse_element(text: &[u8]) -> Option<IpAddr> {
    let text = trim(text);
    if let Some((address, port)) = split_brackets(text) {
        let is_port_valid = match port {
            [] => true,
            [b':', port @ ..] => is_port(port),
            _ => false,
        };
        return (is_port_valid && address.contains(&b':'))
            .then(|| parse_bare(address))
            .flatten();
    }
    let mut parts = text.splitn(3, |octet| *octet == b':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(address), Some(port), None) => is_port(port).then(|| parse_bare(address)).flatten(),
        _ => parse_bare(text),
    }
}

/// Parses the node of a `Forwarded` element, [RFC 7239 §6][node]: IPv6 only in brackets, the port may be obfuscated.
///
/// [node]: https://www.rfc-editor.org/rfc/rfc7239#section-6
pub(crate) fn parse_node(text: &[u8]) -> Option<IpAddr> {
    if let Some((address, port)) = split_brackets(text) {
        let is_port_valid = match port {
            [] => true,
            [b':', port @ ..] => is_node_port(port),
            _ => false,
        };
        let is_ipv6 = address.contains(&b':') && !address.contains(&b'%');
        return (is_port_valid && is_ipv6)
            .then(|| parse_bare(address))
            .flatten();
    }
    let mut parts = text.splitn(2, |octet| *octet == b':');
    let address = parts.next()?;
    let is_port_valid = parts.next().is_none_or(is_node_port);
    is_port_valid
        .then(|| parse_ipv4(address).map(IpAddr::V4).and_then(usable))
        .flatten()
}

/// Appends a number to a text that has room for it.
pub(crate) fn push_number<const CAPACITY: usize>(text: &mut ArrayString<CAPACITY>, number: u16) {
    if number > 9 {
        push_number(text, number / 10);
    }
    let [digit, _] = (number % 10).to_le_bytes();
    let _ = text.try_push(char::from(digit | b'0'));
}

/// Splits `[address]rest` into address and rest.
pub(crate) fn split_brackets(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"[")?;
    let end = inner.iter().position(|octet| *octet == b']')?;
    Some((inner.get(..end)?, inner.get(end.checked_add(1)?..)?))
}

/// Removes SP and HTAB from both ends (OWS of RFC 9110 §5.6.3).
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Parses a whole number from 0 to 65535 of at most five digits.
pub(crate) fn parse_port(text: &[u8]) -> Option<u16> {
    let digits = text.len() <= 5 && text.iter().all(u8::is_ascii_digit);
    digits
        .then(|| std::str::from_utf8(text).ok()?.parse().ok())
        .flatten()
}

fn is_port(text: &[u8]) -> bool {
    parse_port(text).is_some()
}

fn is_node_port(text: &[u8]) -> bool {
    match text {
        [b'_', name @ ..] => !name.is_empty() && name.iter().copied().all(is_obfuscated_octet),
        port => is_port(port),
    }
}

/// Returns true for an octet of an obfuscated identifier, RFC 7239 §6.3.
fn is_obfuscated_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'_' | b'-')
}

fn parse_ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn parse_ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    let mut parts = text.splitn(2, |octet| *octet == b'%');
    let address = parts.next()?;
    if let Some(zone) = parts.next() {
        let is_zone_valid = (1..=16).contains(&zone.len())
            && zone.iter().all(|octet| {
                octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'_' | b'~' | b'-')
            });
        if !is_zone_valid {
            return None;
        }
    }
    std::str::from_utf8(address).ok()?.parse().ok()
}

fn usable(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    (!address.is_unspecified()).then_some(address)
}

/// The length of the longest text of an address: eight groups of four digits.
const MAX_ADDRESS: usize = 39;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_display_does() {
        for address in [
            "0.0.0.1",
            "10.0.100.9",
            "255.255.255.255",
            "2001:db8::1",
            "2001:db81:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let text = AddressText::of(address.parse().unwrap());
            assert_eq!(&*text, address);
            assert_eq!(format!("{text:?}"), format!("{address:?}"));
        }
        for number in [0, 7, 10, 80, 443, 8000, 10_001, u16::MAX] {
            let mut text = ArrayString::<5>::new();
            push_number(&mut text, number);
            assert_eq!(text.as_str(), number.to_string());
        }
    }

    #[track_caller]
    fn check(parse: fn(&[u8]) -> Option<IpAddr>, text: &str, want: Option<&str>) {
        assert_eq!(
            parse(text.as_bytes()).map(|address| address.to_string()),
            want.map(str::to_owned),
            "{text:?}"
        );
    }

    #[test]
    fn elements_of_x_forwarded_for() {
        for (text, want) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("\t192.0.2.1 ", Some("192.0.2.1")),
            ("192.0.2.1:9090", Some("192.0.2.1")),
            ("192.0.2.1:0", Some("192.0.2.1")),
            ("2001:DB8::ABCD", Some("2001:db8::abcd")),
            ("2001:db8::1:8080", Some("2001:db8::1:8080")),
            ("[2001:db8::17]", Some("2001:db8::17")),
            ("[2001:db8::17]:1111", Some("2001:db8::17")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("[::ffff:192.0.2.1]:1", Some("192.0.2.1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("[fe80::1%zone]:4711", Some("fe80::1")),
            ("192.0.2.1:", None),
            ("192.0.2.1:99999", None),
            ("192.0.2.1:123456", None),
            ("192.0.2.1:x", None),
            ("192.0.2.1:+80", None),
            ("192.0.2.1:000080", None),
            ("192.0.2.01", None),
            ("[192.0.2.1]", None),
            ("[2001:db8::1]x", None),
            ("[2001:db8::1", None),
            ("192.0.2.1%eth0", None),
            ("fe80::1%", None),
            ("fe80::1%zone/of/17chars!", None),
            ("0.0.0.0", None),
            ("::", None),
            ("::ffff:0.0.0.0", None),
            ("\"192.0.2.1\"", None),
            ("unknown", None),
            ("", None),
        ] {
            check(parse_element, text, want);
        }
    }

    #[test]
    fn nodes_of_forwarded() {
        for (text, want) in [
            ("192.0.2.43", Some("192.0.2.43")),
            ("192.0.2.43:47011", Some("192.0.2.43")),
            ("192.0.2.43:_secret", Some("192.0.2.43")),
            ("[2001:db8::17]", Some("2001:db8::17")),
            ("[2001:db8::17]:4711", Some("2001:db8::17")),
            ("2001:db8::17", None),
            ("[fe80::1%eth0]", None),
            ("192.0.2.43:_", None),
            ("192.0.2.43:_a/b", None),
            ("192.0.2.43:", None),
            ("_hidden", None),
            ("unknown", None),
            ("", None),
        ] {
            check(parse_node, text, want);
        }
    }
}
