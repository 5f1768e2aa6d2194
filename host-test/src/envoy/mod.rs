//! How does Envoy present a connection and a message to a filter?
//!
//! All that the host knows of Envoy's HTTP connection manager, measured in Envoy 1.40 and in one place: pseudo-headers
//! first, names in lower case, optional white space trimmed, a target in absolute form split, the repeated lines of
//! some fields joined by a comma, and the bytes of the properties that tell who is at the other end.
//!
//! Deliberately not done: what depends on the listener's settings, such as path normalisation, limits, and the headers
//! that the connection manager adds (`x-request-id`, `x-forwarded-proto`). A request that Envoy would refuse before the
//! filter is presented as it is.

pub(crate) mod codec;
pub(crate) mod filter_state;
pub(crate) mod inline_headers;
pub(crate) mod local_reply;
pub(crate) mod profile;

use std::net::SocketAddr;

use crate::abi::MapId;
use crate::abi::header_map::HeaderMap;
use crate::abi::property::{Properties, Value};

/// The start of a request as read from the connection.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The request target, or `:path`.
    pub target: &'a [u8],
    /// The `Host` field or `:authority`; `None` if there is none.
    pub host: Option<&'a [u8]>,
    /// Whether the connection is TLS.
    pub is_tls: bool,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An IP connection.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix,
    /// An address that Envoy took from a header, so that it is not the peer's: its port is 0.
    FromHeader,
}

/// Builds the request header map for `head` and the field lines, which are in wire order and without `Host`.
pub fn request_headers<'a>(
    head: RequestHead<'_>,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> HeaderMap {
    let is_connect = head.method == b"CONNECT";
    let (authority, path) = match split_absolute(head.target) {
        Some((authority, path)) => (Some(authority), Some(path)),
        None if is_connect => (Some(head.target), None),
        None => (head.host, Some(head.target.to_vec())),
    };
    let mut map = HeaderMap::default();
    if let Some(authority) = authority {
        map.add(b":authority", authority);
    }
    if let Some(path) = path {
        map.add(b":path", &path);
    }
    map.add(b":method", head.method);
    map.add(b":scheme", if head.is_tls { b"https" } else { b"http" });
    add_fields(&mut map, MapId::RequestHeaders, fields);
    map
}

/// Builds the response header map.
pub fn response_headers<'a>(
    status: u16,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> HeaderMap {
    let mut map = HeaderMap::default();
    map.add(b":status", status.to_string().as_bytes());
    add_fields(&mut map, MapId::ResponseHeaders, fields);
    map
}

/// Builds a trailer map.
pub fn trailers<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> HeaderMap {
    let mut map = HeaderMap::default();
    // Those of a request have nothing that is joined.
    add_fields(&mut map, MapId::ResponseTrailers, fields);
    map
}

/// The properties of a connection: `source.address`, `source.port` and, on TLS alone, `connection.tls_version`.
pub fn connection_properties(peer: Peer, is_tls: bool) -> Properties {
    let mut properties =
        Properties::default().with(&["source", "address"], Value::Text(peer.address_text()));
    let port = match peer {
        Peer::Ip(address) => Some(address.port()),
        Peer::FromHeader => Some(0),
        Peer::Unix => None,
    };
    if let Some(port) = port {
        properties = properties.with(&["source", "port"], Value::Int(port.into()));
    }
    if is_tls {
        let version = Value::Text("TLSv1.3".to_owned());
        properties = properties.with(&["connection", "tls_version"], version);
    }
    properties
}

/// What a network-level `set_filter_state` records of the direct peer under `key`; nothing for [`Peer::FromHeader`],
/// which is no peer.
pub fn with_recorded_peer(properties: Properties, key: &str, peer: Peer) -> Properties {
    match peer {
        Peer::FromHeader => properties,
        Peer::Ip(_) | Peer::Unix => {
            let address = Value::Text(peer.address_text());
            properties.with(&["filter_state", key], address)
        }
    }
}

impl Peer {
    fn address_text(self) -> String {
        match self {
            Self::Ip(address) => address.to_string(),
            Self::Unix => "/run/downstream.sock".to_owned(),
            Self::FromHeader => "203.0.113.99:0".to_owned(),
        }
    }
}

fn add_fields<'a>(
    map: &mut HeaderMap,
    which: MapId,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) {
    for (name, value) in fields {
        inline_headers::add(map, which, name, trim(value));
    }
}

/// Splits `http://host/path`, whose path Envoy takes to be `/` if there is none.
fn split_absolute(target: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let start = target.windows(3).position(|window| window == b"://")?;
    let (scheme, rest) = (target.get(..start)?, target.get(start + 3..)?);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let path = if path.starts_with(b"/") {
        path.to_vec()
    } else {
        [b"/", path].concat()
    };
    Some((authority, path))
}

/// Optional white space of RFC 9110 §5.6.3.
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(start, |end| end + 1);
    value.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::header_map::lines;

    #[track_caller]
    fn check(target: &str, fields: &[(&str, &str)], want: &[(&str, &str)]) {
        let head = RequestHead {
            method: b"GET",
            target: target.as_bytes(),
            host: Some(b"app.example"),
            is_tls: false,
        };
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        assert_eq!(request_headers(head, fields), lines(want));
    }

    #[test]
    fn pseudo_headers_come_first_and_names_are_lowered() {
        check(
            "/a?b",
            &[("X-One", " \t1 \t"), ("X-Empty", "  ")],
            &[
                (":authority", "app.example"),
                (":path", "/a?b"),
                (":method", "GET"),
                (":scheme", "http"),
                ("x-one", "1"),
                ("x-empty", ""),
            ],
        );
    }

    #[test]
    fn some_fields_are_joined() {
        check(
            "/",
            &[
                ("X-Forwarded-For", "192.0.2.1"),
                ("X-Real-IP", "1"),
                ("x-forwarded-for", "192.0.2.2"),
                ("x-real-ip", "2"),
            ],
            &[
                (":authority", "app.example"),
                (":path", "/"),
                (":method", "GET"),
                (":scheme", "http"),
                ("x-forwarded-for", "192.0.2.1,192.0.2.2"),
                ("x-real-ip", "1"),
                ("x-real-ip", "2"),
            ],
        );
    }

    #[test]
    fn an_absolute_target_is_split() {
        for (target, path) in [
            ("http://other.example/x", "/x"),
            ("HTTPS://other.example", "/"),
            ("http://other.example?q=://", "/?q=://"),
        ] {
            let want = [
                (":authority", "other.example"),
                (":path", path),
                (":method", "GET"),
                (":scheme", "http"),
            ];
            check(target, &[], &want);
        }
    }

    #[test]
    fn a_target_with_an_url_in_it_is_not_absolute() {
        check(
            "/to?http://other.example/",
            &[],
            &[
                (":authority", "app.example"),
                (":path", "/to?http://other.example/"),
                (":method", "GET"),
                (":scheme", "http"),
            ],
        );
    }
}
