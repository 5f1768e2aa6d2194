//! Finds hop-by-hop fields, RFC 9110 §7.6.1, which must not be forwarded.
//!
//! They include the fields that frame a message, because each hop writes its own. Fields that `Connection` nominates are
//! removed from requests by the policy. In responses they are found here, over all `Connection` lines.

use fluxlit_policy::Header;

use crate::http::head::{elements, read_trailers};

/// Returns true if a field is for one hop or frames the message. Names are compared without case.
pub(crate) fn is_hop_by_hop(name: &[u8]) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    // The first letter rules out most fields.
    let first = name.first().map_or(0, |first| first | 0x20);
    if !matches!(first, b'c' | b'k' | b'p' | b't' | b'u') {
        return false;
    }
    match name.len() {
        2 => is("te"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("content-length"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        18 => is("proxy-authenticate"),
        19 => is("proxy-authorization"),
        25 => is("proxy-authentication-info"),
        _ => false,
    }
}

/// Returns true if a field of a request is not forwarded: hop-by-hop fields, `Trailer`, because trailers are not forwarded
/// either, and `Expect`, because the gateway writes its own.
pub(crate) fn is_removed_from_requests(name: &[u8]) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match name.len() {
        6 => is("expect"),
        7 => is("trailer") || is_hop_by_hop(name),
        _ => is_hop_by_hop(name),
    }
}

/// Returns the fields that a response's `Connection` nominates.
pub(crate) fn nominated<'a>(fields: &[Header<'a>]) -> Vec<&'a [u8]> {
    elements(fields, b"connection").collect()
}

/// Returns the trailers of a response that may be forwarded: no framing, no routing, nothing that controls how the message
/// is handled, RFC 9110 §6.5.1.
pub(crate) fn trailers(section: &[u8]) -> Vec<u8> {
    let Ok(fields) = read_trailers(section) else {
        // Does not happen, because the section was checked when it was received.
        return b"\r\n".to_vec();
    };
    let mut kept = Vec::with_capacity(section.len());
    for (name, value) in fields {
        if is_hop_by_hop(name) || is_forbidden(name) {
            continue;
        }
        for part in [name, b": ", value, b"\r\n"] {
            kept.extend_from_slice(part);
        }
    }
    kept.extend_from_slice(b"\r\n");
    kept
}

fn is_forbidden(name: &[u8]) -> bool {
    FORBIDDEN_TRAILERS
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

const FORBIDDEN_TRAILERS: [&str; 18] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "expect",
    "host",
    "location",
    "range",
    "refresh",
    "set-cookie",
    "strict-transport-security",
    "trailer",
    "www-authenticate",
    "x-request-id",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_not_forwarded() {
        let hop_by_hop = [
            "TE",
            "Upgrade",
            "connection",
            "Keep-Alive",
            "Content-Length",
            "Proxy-Connection",
            "Transfer-Encoding",
            "Proxy-Authenticate",
            "Proxy-Authorization",
            "Proxy-Authentication-Info",
        ];
        for name in hop_by_hop {
            assert!(is_hop_by_hop(name.as_bytes()), "{name}");
            assert!(is_removed_from_requests(name.as_bytes()), "{name}");
        }
        for name in ["Expect", "Trailer"] {
            assert!(!is_hop_by_hop(name.as_bytes()), "{name}");
            assert!(is_removed_from_requests(name.as_bytes()), "{name}");
        }
        // Of the same lengths.
        for name in [
            "",
            "td",
            "cookie",
            "trailed",
            "connexions",
            "content-lengty",
            "proxy-connectiox",
            "transfer-encodinx",
            "proxy-authenticatx",
            "proxy-authorizatiox",
            "proxy-authentication-infx",
        ] {
            assert!(!is_removed_from_requests(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn nominated_fields_are_found_on_every_line() {
        let fields: [Header<'_>; 3] = [
            (b"connection", b"x-one"),
            (b"x-three", b"3"),
            (b"Connection", b"close, X-Two"),
        ];
        assert_eq!(nominated(&fields), [&b"x-one"[..], b"close", b"X-Two"]);
    }

    #[test]
    fn trailers_with_a_meaning_are_removed() {
        let section = b"Digest: x\r\nSet-Cookie: a=b\r\ncontent-length: 3\r\nTE: x\r\n\r\n";
        let kept = trailers(section);
        assert_eq!(kept, b"Digest: x\r\n\r\n");
        assert_eq!(trailers(b"\r\n"), b"\r\n");
        assert_eq!(trailers(b"not a field\r\n\r\n"), b"\r\n");
        for name in FORBIDDEN_TRAILERS {
            let section = format!("{name}: x\r\na: b\r\n\r\n").to_uppercase();
            assert_eq!(trailers(section.as_bytes()), b"A: B\r\n\r\n", "{name}");
        }
    }
}
