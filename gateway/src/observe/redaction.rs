//! Redacts the query of a request target for logs and traces.
//!
//! The values of parameters that grant access are replaced: session ids, tokens, login codes. Nothing else is decoded or
//! encoded, so that the rest can be compared with what the browser sent. Names are compared as an app reads them:
//! percent-decoded, and without regard to case.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The names of query parameters whose values are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redaction {
    /// In lower case.
    names: Vec<String>,
}

impl Redaction {
    /// Takes `further` names in addition to those that are always redacted.
    pub(crate) fn new(further: impl IntoIterator<Item = String>) -> Self {
        let further = further
            .into_iter()
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty());
        Self {
            names: ALWAYS
                .into_iter()
                .map(str::to_owned)
                .chain(further)
                .collect(),
        }
    }

    /// Returns the redacted query in pieces.
    pub(crate) fn query<'q>(&self, query: &'q [u8]) -> impl Iterator<Item = &'q [u8]> {
        query
            .split_inclusive(|octet| *octet == b'&')
            .flat_map(|pair| {
                let (pair, end) = match pair.split_last() {
                    Some((b'&', pair)) => (pair, "&"),
                    _ => (pair, ""),
                };
                let equals = pair.iter().position(|octet| *octet == b'=');
                match equals.and_then(|at| pair.split_at_checked(at + 1)) {
                    Some((name, value)) if !value.is_empty() && self.names(name) => {
                        [name, REDACTED, end.as_bytes()]
                    }
                    _ => [pair, b"", end.as_bytes()],
                }
            })
    }

    fn names(&self, name: &[u8]) -> bool {
        let name: Cow<'_, [u8]> = percent_decode(name.strip_suffix(b"=").unwrap_or(name)).into();
        self.names
            .iter()
            .any(|known| known.as_bytes().eq_ignore_ascii_case(&name))
    }
}

/// Splits a target into path and query. Scheme and authority of the absolute form (RFC 9112 §3.2.2) are left out.
pub(crate) fn split(target: &[u8]) -> (&[u8], &[u8]) {
    let scheme = target.windows(3).position(|octets| octets == b"://");
    let target = match scheme.and_then(|at| target.get(at + 3..)) {
        Some(rest) if !target.starts_with(b"/") => {
            // The authority may contain a user and a password.
            let path = rest.iter().position(|octet| matches!(octet, b'/' | b'?'));
            path.and_then(|at| rest.get(at..)).unwrap_or_default()
        }
        _ => target,
    };
    let mut parts = target.splitn(2, |octet| *octet == b'?');
    let path = parts.next().unwrap_or_default();
    (path, parts.next().unwrap_or_default())
}

/// The names that are always redacted; the first two are FluxLit's own.
const ALWAYS: [&str; 13] = [
    "fluxlit_sid",
    "auth_code",
    "access_token",
    "code",
    "id_token",
    "key",
    "password",
    "refresh_token",
    "secret",
    "session",
    "signature",
    "state",
    "token",
];

const REDACTED: &[u8] = b"<redacted>";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redacted(redaction: &Redaction, query: &[u8]) -> Vec<u8> {
        redaction.query(query).collect::<Vec<_>>().concat()
    }

    #[test]
    fn values_that_grant_access_are_replaced() {
        let table = [
            ("", ""),
            ("page=2", "page=2"),
            ("token=abc", "token=<redacted>"),
            ("a=1&code=xyz&b=2", "a=1&code=<redacted>&b=2"),
            (
                "fluxlit_sid=s&auth_code=c",
                "fluxlit_sid=<redacted>&auth_code=<redacted>",
            ),
            ("Token=a&TOKEN=b", "Token=<redacted>&TOKEN=<redacted>"),
            ("%74oken=abc", "%74oken=<redacted>"),
            ("%54%4fKEN=abc", "%54%4fKEN=<redacted>"),
            ("token=a=b=c", "token=<redacted>"),
            ("ticket=1", "ticket=<redacted>"),
            // These contain no secret.
            ("token=", "token="),
            ("token", "token"),
            ("tokens=1&my_token=2", "tokens=1&my_token=2"),
            ("%7token=abc&%=1&x=%zz", "%7token=abc&%=1&x=%zz"),
            ("&&=&=x&", "&&=&=x&"),
            ("a=%3Cb%3e+c", "a=%3Cb%3e+c"),
        ];
        let redaction = Redaction::new([" Ticket ".to_owned(), String::new()]);
        for (query, expected) in table {
            let written = redacted(&redaction, query.as_bytes());
            assert_eq!(String::from_utf8_lossy(&written), expected);
        }
    }

    #[test]
    fn a_target_is_split_into_path_and_query() {
        let table = [
            ("/", "/", ""),
            ("/a?b=c?d", "/a", "b=c?d"),
            ("/a?", "/a", ""),
            ("*", "*", ""),
            ("http://user:pass@host/a?b", "/a", "b"),
            ("http://user:pass@host?b", "", "b"),
            ("http://user:pass@host", "", ""),
            ("/a?next=http://b/c", "/a", "next=http://b/c"),
            ("", "", ""),
        ];
        for (target, path, query) in table {
            let expected = (path.as_bytes(), query.as_bytes());
            assert_eq!(split(target.as_bytes()), expected, "{target}");
        }
    }

    proptest! {
        #[test]
        fn a_query_without_secret_names_is_unchanged(query: Vec<u8>) {
            let nothing = Redaction { names: Vec::new() };
            prop_assert_eq!(redacted(&nothing, &query), query);
        }

        #[test]
        fn a_secret_is_replaced_whatever_is_around_it(before in "[^&]*&|", after in "|&.*") {
            let query = format!("{before}token=s3cr3t{after}");
            let written = redacted(&Redaction::new([]), query.as_bytes());
            let expected = redacted(&Redaction::new([]), before.as_bytes());
            prop_assert!(written.starts_with(&[&expected, "token=<redacted>".as_bytes()].concat()));
        }
    }
}
