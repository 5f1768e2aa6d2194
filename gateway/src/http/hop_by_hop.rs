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

/// Returns the fields that a response's `Connection` nominates.
pub(crate) fn nominated<'a>(fields: &[Header<'a>]) -> Vec<&'a [u8]> {
    elements(fields, b"connection").collect()
}

/// Returns the trailers that may be forwarded: no framing, no routing, nothing that controls how the message is handled,
/// RFC 9110 §6.5.1, and no name for which `is_protected` returns true.
pub(crate) fn trailers(section: &[u8], is_protected: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let Ok(fields) = read_trailers(section) else {
        // Does not happen, because the section was checked when it was received.
        return b"\r\n".to_vec();
    };
    let mut kept = Vec::with_capacity(section.len());
    for (name, value) in fields {
        if is_hop_by_hop(name) || is_forbidden(name) || is_protected(name) {
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
        let section = b"Digest: x\r\nSet-Cookie: a=b\r\ncontent-length: 3\r\nx-forwarded-for: 6.6.6.6\r\n\r\n";
        let kept = trailers(section, |name| name.starts_with(b"x-forwarded"));
        assert_eq!(kept, b"Digest: x\r\n\r\n");
    }
}
