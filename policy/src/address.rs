//! Which texts are an IP address, and which address is it?
//!
//! Addresses are compared as numbers and written in one form: RFC 5952 for IPv6, an IPv4-mapped IPv6 address as the
//! IPv4 address it stands for. What a text leaves open is unreadable: there is no guessing at octal or short IPv4, no
//! name resolution, and the unspecified addresses are nobody's address. Zones are read and dropped, never emitted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Reads an address without port or brackets: `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
pub(crate) fn read_bare(text: &[u8]) -> Option<IpAddr> {
    if text.contains(&b':') {
        return read_ipv6(text).map(IpAddr::V6).and_then(usable);
    }
    read_ipv4(text).map(IpAddr::V4).and_then(usable)
}

/// Reads one element of `X-Forwarded-For`: an address, bracketed or not, with or without a port.
pub(crate) fn read_element(text: &[u8]) -> Option<IpAddr> {
    let text = trim(text);
    if let Some((address, port)) = split_brackets(text) {
        let port_fits = match port {
            [] => true,
            [b':', port @ ..] => is_port(port),
            _ => false,
        };
        return (port_fits && address.contains(&b':'))
            .then(|| read_bare(address))
            .flatten();
    }
    let mut parts = text.splitn(3, |octet| *octet == b':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(address), Some(port), None) => is_port(port).then(|| read_bare(address)).flatten(),
        _ => read_bare(text),
    }
}

/// Reads the node of a `Forwarded` element, [RFC 7239 §6][node]: IPv6 only in brackets, the port may be obfuscated.
///
/// [node]: https://www.rfc-editor.org/rfc/rfc7239#section-6
pub(crate) fn read_node(text: &[u8]) -> Option<IpAddr> {
    if let Some((address, port)) = split_brackets(text) {
        let port_fits = match port {
            [] => true,
            [b':', port @ ..] => is_node_port(port),
            _ => false,
        };
        let is_ipv6 = address.contains(&b':') && !address.contains(&b'%');
        return (port_fits && is_ipv6).then(|| read_bare(address)).flatten();
    }
    let mut parts = text.splitn(2, |octet| *octet == b':');
    let address = parts.next()?;
    let port_fits = parts.next().is_none_or(is_node_port);
    port_fits
        .then(|| read_ipv4(address).map(IpAddr::V4).and_then(usable))
        .flatten()
}

/// The one text of an address, RFC 5952 for IPv6. What `Display` writes, but a request has it to do each time, and the
/// formatting machinery takes ten times as long for four numbers.
pub(crate) fn text_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let mut text = String::new();
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    text.push('.');
                }
                push_number(&mut text, octet.into());
            }
            text
        }
        IpAddr::V6(address) => address.to_string(),
    }
}

/// Writes a number behind a text.
pub(crate) fn push_number(text: &mut String, number: u16) {
    if number > 9 {
        push_number(text, number / 10);
    }
    let [digit, _] = (number % 10).to_le_bytes();
    text.push(char::from(digit | b'0'));
}

/// Cuts `[address]rest` into address and rest.
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

/// Reads a whole number from 0 to 65535 of at most five digits.
pub(crate) fn read_port(text: &[u8]) -> Option<u16> {
    let digits = text.len() <= 5 && text.iter().all(u8::is_ascii_digit);
    digits
        .then(|| std::str::from_utf8(text).ok()?.parse().ok())
        .flatten()
}

fn is_port(text: &[u8]) -> bool {
    read_port(text).is_some()
}

fn is_node_port(text: &[u8]) -> bool {
    match text {
        [b'_', name @ ..] => !name.is_empty() && name.iter().copied().all(is_obfuscated_octet),
        port => is_port(port),
    }
}

/// Octets of an obfuscated identifier, RFC 7239 §6.3.
fn is_obfuscated_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'_' | b'-')
}

fn read_ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn read_ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    let mut parts = text.splitn(2, |octet| *octet == b'%');
    let address = parts.next()?;
    if let Some(zone) = parts.next() {
        let zone_fits = (1..=16).contains(&zone.len())
            && zone.iter().all(|octet| {
                octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'_' | b'~' | b'-')
            });
        if !zone_fits {
            return None;
        }
    }
    std::str::from_utf8(address).ok()?.parse().ok()
}

fn usable(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_display() {
        for address in ["0.0.0.1", "10.0.100.9", "255.255.255.255", "2001:db8::1"] {
            assert_eq!(text_of(address.parse().unwrap()), address);
        }
        for number in [0, 7, 10, 80, 443, 8000, 10_001, u16::MAX] {
            let mut text = String::new();
            push_number(&mut text, number);
            assert_eq!(text, number.to_string());
        }
    }

    #[track_caller]
    fn check(read: fn(&[u8]) -> Option<IpAddr>, text: &str, want: Option<&str>) {
        assert_eq!(
            read(text.as_bytes()).map(|address| address.to_string()),
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
            check(read_element, text, want);
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
            ("192.0.2.43:", None),
            ("_hidden", None),
            ("unknown", None),
            ("", None),
        ] {
            check(read_node, text, want);
        }
    }
}
