//! Which fields go from one connection to the next, and in which form?
//!
//! Fields of one hop do not: those of RFC 9110 §7.6.1 and whatever any `Connection` line names. `Expect` is met by this
//! proxy. An upgrade keeps `Connection: upgrade` and `Upgrade`, as Envoy does, so that the filter sees them.

use host_test::HeaderMap;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderName, HeaderValue};

/// The protocol that a message asks to upgrade to, or upgrades to.
pub(super) fn upgrade(headers: &http::HeaderMap) -> Option<HeaderValue> {
    let is_upgrade = nominated(headers).any(|name| name.eq_ignore_ascii_case(b"upgrade"));
    headers.get(UPGRADE).filter(|_| is_upgrade).cloned()
}

/// Removes the fields of one hop.
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

/// The lines of a message, as the filter is to see them.
pub(super) fn fields(headers: &http::HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// What the filter let pass, without pseudo-headers; a line that HTTP cannot carry is an error.
pub(super) fn from_filter(map: &HeaderMap) -> Result<http::HeaderMap, http::Error> {
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

fn nominated(headers: &http::HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
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
