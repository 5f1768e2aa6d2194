//! Removes hop-by-hop fields, and converts header maps between hyper and the filter.
//!
//! Hop-by-hop fields are those of RFC 9110 §7.6.1 and those that a `Connection` field names. `Expect` is removed as well:
//! hyper responds to it. An upgrade keeps `Connection: upgrade` and `Upgrade`, as in Envoy, so that the filter sees them.

use fluxlit_cases::latin1;
use host_test::HeaderMap;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderName, HeaderValue};

/// Returns the protocol that a request wants to upgrade to, or that a response switches to.
pub(super) fn upgrade(headers: &http::HeaderMap) -> Option<HeaderValue> {
    let is_upgrade = nominated(headers).any(|name| name.eq_ignore_ascii_case(b"upgrade"));
    headers.get(UPGRADE).filter(|_| is_upgrade).cloned()
}

/// Removes the hop-by-hop fields.
pub(super) fn remove_hop_by_hop(headers: &mut http::HeaderMap) {
    let upgrade = upgrade(headers);
    let nominated: Vec<HeaderName> = nominated(headers)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    for name in nominated {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Returns the fields of a message as the filter sees them.
pub(super) fn fields(headers: &http::HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// Returns the fields in the form of a case file, without pseudo-headers.
pub(super) fn case_fields(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .filter(|(name, _)| !name.starts_with(b":"))
        .map(|(name, value)| (latin1::text(name), latin1::text(value)))
        .collect()
}

/// Converts the headers that the filter forwarded, without pseudo-headers. A name or value that is invalid in HTTP is an error.
pub(super) fn to_http(map: &HeaderMap) -> Result<http::HeaderMap, http::Error> {
    let mut headers = http::HeaderMap::with_capacity(map.len());
    for (name, value) in map.iter() {
        if !name.starts_with(b":") {
            headers.append(
                HeaderName::from_bytes(name)?,
                HeaderValue::from_bytes(value)?,
            );
        }
    }
    Ok(headers)
}

/// Returns the names that `Connection` fields contain.
fn nominated(headers: &http::HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
