//! Lists the names of the protected headers, for tests of a running host.
//!
//! The rules decide by lists, families and endings. A test that sends forged headers needs names: all that are listed, and
//! examples for each family and ending.

use crate::connection_headers::{ENDINGS, FORWARDED_IDENTITY, LISTED};
use crate::identity_headers::HEADERS;

/// Returns the protected names in lower case with hyphens. A family, such as `x-forwarded-*`, is represented by its most
/// common names and by one that no product uses.
///
/// Of `content-length` and `transfer-encoding`, only the spelling with an underscore is protected.
#[must_use]
pub fn protected_names() -> Vec<String> {
    let identity = HEADERS
        .names()
        .iter()
        .map(|entry| match entry.strip_suffix('*') {
            None => (*entry).to_owned(),
            Some(family) => format!("{family}example"),
        });
    let endings = ENDINGS
        .iter()
        .map(|(ending, _)| format!("x-example-{ending}"));
    let listed = LISTED.iter().map(|(name, _)| (*name).to_owned());
    let forwarded = FORWARDED.iter().chain(&FORWARDED_IDENTITY);
    COMMON
        .iter()
        .map(|name| (*name).to_owned())
        .chain(forwarded.map(|rest| format!("x-forwarded-{rest}")))
        .chain(listed)
        .chain(endings)
        .chain(identity)
        .collect()
}

/// Common names after `x-forwarded-`.
const FORWARDED: [&str; 11] = [
    "client-cert",
    "example",
    "for",
    "host",
    "port",
    "prefix",
    "proto",
    "scheme",
    "server",
    "ssl",
    "uri",
];

/// Names of well-known products that are decided by their endings.
const COMMON: [&str; 7] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-remote-addr",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protected_headers::group_of;

    #[test]
    fn every_name_is_protected() {
        for name in protected_names() {
            let name = match name.as_str() {
                "content-length" | "transfer-encoding" => name.replace('-', "_"),
                _ => name,
            };
            assert!(group_of(name.as_bytes()).is_some(), "{name}");
        }
    }
}
