//! Which fields belong to one connection, and must not be forwarded?
//!
//! RFC 9110 §7.6.1. Fields that `Connection` nominates are removed from requests by the policy; on the way back it is
//! done here, over all `Connection` lines, because a nominated field may stand on any of them.

use http::header::{self, HeaderMap, HeaderName};

/// Removes the hop-by-hop fields of a request. What the policy has set stays.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes the hop-by-hop fields of a response, those it nominates among them.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::CONTENT_LENGTH)
        .collect();
    for name in nominated {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether a request asks for a WebSocket, RFC 6455 §4.2.1.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade")
}

const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_nominated_on_any_line_go() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-one"),
            ("connection", "close, X-Two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("content-length", "0"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        strip_response(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-three", "content-length"]);
    }
}
