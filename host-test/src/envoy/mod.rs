//! Models how Envoy presents connections and messages to a filter, and how it processes the filter's result.
//!
//! Everything that the host knows about Envoy's HTTP connection manager is in this folder, measured in Envoy 1.40. This file
//! builds the headers and properties that a filter sees: pseudo-headers first, names in lower case, optional white space
//! trimmed, a target in absolute form split, repeated lines of inline headers joined by a comma, and the properties that
//! identify the peer. May use `event` and `abi`.
//!
//! Deliberately not done: anything that depends on the listener's settings, such as path normalization, limits, and the headers
//! that the connection manager adds (`x-request-id`, `x-forwarded-proto`). A request that Envoy would reject before the
//! filter is presented unchanged.

pub(crate) mod codec;
pub(crate) mod filter_state;
pub(crate) mod inline_headers;
pub(crate) mod local_reply;
pub(crate) mod profile;

use std::net::SocketAddr;

pub use local_reply::LocalReply;
pub use profile::{Profile, Rule};

use codec::trim;

use crate::abi::{HeaderMap, MapId, Properties, Value};

/// The head of a request without its fields, as received on the connection.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The request target, or `:path`.
    pub target: &'a [u8],
    /// The `Host` field or `:authority`; `None` if there is none.
    pub host: Option<&'a [u8]>,
    /// True if the connection is TLS.
    pub is_tls: bool,
}

/// The peer of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An IP connection.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix,
    /// An address that Envoy took from a header, so that it is not the peer's; its port is 0.
    FromHeader,
}

/// Builds the request header map from `head` and the field lines, which are in wire order and without `Host`.
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
    // Request trailers have no inline headers; the other trailers may use the same table.
    add_fields(&mut map, MapId::ResponseTrailers, fields);
    map
}

/// Builds the properties of a connection: `source.address`, `source.port` and, only on TLS, `connection.tls_version`.
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

/// Adds the address of the direct peer, as a network-level `set_filter_state` records it under `key`. [`Peer::FromHeader`]
/// is not a peer and adds nothing.
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

/// Splits `http://host/path` into authority and path, which is `/` if it is missing.
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
    #[test]
    fn a_connect_request_has_an_authority_and_no_path() {
        let head = RequestHead {
            method: b"CONNECT",
            target: b"app.example:443",
            host: Some(b"other.example"),
            is_tls: true,
        };
        let want = [
            (":authority", "app.example:443"),
            (":method", "CONNECT"),
            (":scheme", "https"),
        ];
        assert_eq!(request_headers(head, []), lines(&want));
    }

    #[test]
    fn a_response_begins_with_its_status() {
        let fields: [(&[u8], &[u8]); 3] = [(b"Vary", b" a "), (b"vary", b"b"), (b"x-a", b"c")];
        let want = [(":status", "204"), ("vary", "a,b"), ("x-a", "c")];
        assert_eq!(response_headers(204, fields), lines(&want));
    }

    #[test]
    fn trailers_are_joined_for_grpc_only() {
        let fields: [(&[u8], &[u8]); 4] = [
            (b"grpc-status", b"0"),
            (b"grpc-status", b"1"),
            (b"vary", b"a"),
            (b"vary", b"b"),
        ];
        let want = [("grpc-status", "0,1"), ("vary", "a"), ("vary", "b")];
        assert_eq!(trailers(fields), lines(&want));
    }

    #[test]
    fn properties_identify_the_peer() {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let port = |port: i64| Some(port.to_le_bytes().to_vec());
        for (peer, address, port_value, recorded) in [
            (
                Peer::Ip("192.0.2.1:4711".parse().unwrap()),
                text("192.0.2.1:4711"),
                port(4711),
                text("192.0.2.1:4711"),
            ),
            (
                Peer::Unix,
                text("/run/downstream.sock"),
                None,
                text("/run/downstream.sock"),
            ),
            (Peer::FromHeader, text("203.0.113.99:0"), port(0), None),
        ] {
            for is_tls in [false, true] {
                let properties = connection_properties(peer, is_tls);
                assert_eq!(properties.get(b"source\0address"), address, "{peer:?}");
                assert_eq!(properties.get(b"source\0port"), port_value, "{peer:?}");
                let version = properties.get(b"connection\0tls_version");
                assert_eq!(version.is_some(), is_tls, "{peer:?}");
                let properties = with_recorded_peer(properties, "peer", peer);
                let found = properties.get(b"filter_state\0peer");
                assert_eq!(found, recorded, "{peer:?}");
            }
        }
    }

    #[test]
    fn a_target_of_another_scheme_is_not_absolute() {
        for target in ["ftp://other.example/x", "://other.example/x"] {
            let want = [
                (":authority", "app.example"),
                (":path", target),
                (":method", "GET"),
                (":scheme", "http"),
            ];
            check(target, &[], &want);
        }
    }
}
