//! Merges repeated lines of the fields that Envoy stores as inline headers.
//!
//! Envoy stores an inline header as one value: further lines are joined to the first by a comma, whether they arrive that way
//! or a filter adds them. All other fields keep each line. Measured in Envoy 1.40, which has different inline headers for
//! requests and responses; for response trailers only those of gRPC.

use crate::abi::{HeaderMap, MapId};

/// Builds a map from lines as Envoy stores them.
pub(crate) fn merge<'a>(
    which: MapId,
    lines: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> HeaderMap {
    let mut map = HeaderMap::default();
    for (name, value) in lines {
        add(&mut map, which, name, value);
    }
    map
}

/// Adds a line as Envoy does.
pub(crate) fn add(map: &mut HeaderMap, which: MapId, name: &[u8], value: &[u8]) {
    let first = map.get_bytes(name).filter(|_| is_inline(which, name));
    match first.map(<[u8]>::to_vec) {
        // An empty value is dropped, so no comma is added for it.
        Some(first) if first.is_empty() => map.replace(name, value),
        Some(_) if value.is_empty() => {}
        Some(first) => map.replace(name, &[&first, &b","[..], value].concat()),
        None => map.add(name, value),
    }
}

fn is_inline(which: MapId, name: &[u8]) -> bool {
    let table: &[&str] = match which {
        MapId::RequestHeaders => &REQUEST,
        MapId::ResponseHeaders => &RESPONSE,
        MapId::ResponseTrailers => &["grpc-message", "grpc-status"],
        _ => return false,
    };
    let name = name.to_ascii_lowercase();
    table
        .binary_search_by(|known| known.as_bytes().cmp(&name))
        .is_ok()
}

/// Inline request headers, sorted.
const REQUEST: [&str; 65] = [
    ":authority",
    ":method",
    ":path",
    ":protocol",
    ":scheme",
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "cache-control",
    "cdn-loop",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "origin",
    "pragma",
    "proxy-connection",
    "proxy-status",
    "referer",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-is-timeout-retry",
    "x-envoy-max-retries",
    "x-envoy-original-path",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];

/// Inline response headers, sorted.
const RESPONSE: [&str; 37] = [
    ":status",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "age",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expires",
    "grpc-message",
    "grpc-status",
    "keep-alive",
    "last-modified",
    "location",
    "proxy-connection",
    "proxy-status",
    "server",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-degraded",
    "x-envoy-immediate-health-check-fail",
    "x-envoy-ratelimited",
    "x-envoy-upstream-canary",
    "x-envoy-upstream-healthchecked-cluster",
    "x-envoy-upstream-service-time",
    "x-request-id",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_headers_are_joined_and_empty_values_dropped() {
        for (which, name, lines, want) in [
            (MapId::RequestHeaders, "accept", ["a", "b"], &["a,b"][..]),
            (MapId::RequestHeaders, "Accept", ["", "b"], &["b"]),
            (MapId::RequestHeaders, "accept", ["a", ""], &["a"]),
            (MapId::RequestHeaders, "accept", ["", ""], &[""]),
            (MapId::RequestHeaders, "cookie", ["", "b"], &["", "b"]),
            (MapId::ResponseHeaders, "accept", ["a", "b"], &["a", "b"]),
            (MapId::ResponseTrailers, "grpc-status", ["1", "2"], &["1,2"]),
            (
                MapId::RequestTrailers,
                "grpc-status",
                ["1", "2"],
                &["1", "2"],
            ),
        ] {
            let lines = lines.map(|value| (name.as_bytes(), value.as_bytes()));
            let map = merge(which, lines);
            let want: Vec<&[u8]> = want.iter().map(|value| value.as_bytes()).collect();
            assert_eq!(
                map.get_all(&name.to_ascii_lowercase()),
                want,
                "{name} {lines:?}"
            );
        }
    }

    #[test]
    fn tables_are_sorted() {
        assert!(REQUEST.is_sorted() && RESPONSE.is_sorted());
    }
}
