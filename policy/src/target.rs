//! Parses request targets and rejects those that two parsers could interpret differently.
//!
//! A target is forwarded as it was received, never decoded and encoded again. Whatever two parsers could resolve
//! differently is rejected instead: dot segments, even if escaped twice, backslashes, control octets, broken escapes and
//! fragments. The query is opaque; only octets that no target may contain are rejected in it. For the same reason the
//! `url` crate is not used: it resolves dot segments and re-encodes what it parses.
//!
//! The forms are those of RFC 9112 §3.2. The asterisk form is rejected, because nothing here has server-wide options.

use std::borrow::Cow;

use crate::address::trim;
use crate::mount::{decode_hex, is_unreserved};
use crate::reason::Reason;

/// A request target that has passed the checks, split but not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// The authority of an absolute-form target.
    pub(crate) authority: Option<&'a [u8]>,
    /// The path, which begins with a slash.
    pub(crate) path: &'a [u8],
    /// The query with its question mark; empty if there is none.
    pub(crate) query: &'a [u8],
    /// Path and query as received: the path may be empty.
    received: &'a [u8],
}

impl<'a> Target<'a> {
    pub(crate) fn parse(method: &[u8], raw: &'a [u8]) -> Result<Self, Reason> {
        if method == b"CONNECT" {
            return Err(Reason::MethodNotAllowed);
        }
        if raw.len() > MAX_TARGET {
            return Err(Reason::TargetTooLong);
        }
        // Most targets have none of the octets that must be looked at more closely.
        let found = raw.iter().fold(0, |found, octet| found | class(*octet));
        if found & FRAGMENT != 0 {
            return Err(Reason::Fragment);
        }
        if found & NOT_VISIBLE != 0 {
            return Err(Reason::BadOctet);
        }
        let (authority, rest) = match raw {
            [b'/', ..] => (None, raw),
            _ => Self::split_absolute(raw)?,
        };
        let (path, query) = if found & QUERY == 0 {
            (rest, b"".as_slice())
        } else {
            split_query(rest)
        };
        let path = if path.is_empty() { b"/" } else { path };
        if found & SPECIAL != 0 {
            check_path(path)?;
        }
        Ok(Self {
            authority,
            path,
            query,
            received: rest,
        })
    }

    /// Returns the path and the query.
    pub(crate) fn path_and_query(&self) -> Cow<'a, [u8]> {
        if self.received.starts_with(b"/") {
            Cow::Borrowed(self.received)
        } else {
            Cow::Owned([self.path, self.query].concat())
        }
    }

    /// Splits `http://authority/path`. The authority is validated together with `Host`, in one place.
    fn split_absolute(raw: &'a [u8]) -> Result<(Option<&'a [u8]>, &'a [u8]), Reason> {
        let after_scheme = [b"http://".as_slice(), b"https://"]
            .into_iter()
            .find_map(|scheme| {
                let (start, rest) = raw.split_at_checked(scheme.len())?;
                start.eq_ignore_ascii_case(scheme).then_some(rest)
            })
            .ok_or(Reason::TargetForm)?;
        let end = after_scheme
            .iter()
            .position(|octet| matches!(octet, b'/' | b'?'))
            .unwrap_or(after_scheme.len());
        match after_scheme.split_at_checked(end) {
            Some((authority, rest)) => Ok((Some(authority), rest)),
            None => Err(Reason::TargetForm),
        }
    }
}

/// Splits a target before its question mark.
pub(crate) fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    let end = target.iter().position(|octet| *octet == b'?');
    target
        .split_at_checked(end.unwrap_or(target.len()))
        .unwrap_or((target, b""))
}

/// Replaces leading slashes by one: a parser that reads the path as a URL would take `//host` for a network-path
/// reference, RFC 3986 §4.2.
pub(crate) fn collapse_leading_slashes(path: &[u8]) -> &[u8] {
    let mut path = path;
    while let [b'/', rest @ ..] = path
        && rest.first() == Some(&b'/')
    {
        path = rest;
    }
    path
}

fn check_path(path: &[u8]) -> Result<(), Reason> {
    let mut escaped = false;
    let mut rest = path;
    while let [octet, after @ ..] = rest {
        rest = after;
        match octet {
            b'\\' => return Err(Reason::Backslash),
            b'%' => {
                escaped = true;
                match after {
                    [high, low, ..] => match decode_hex(*high, *low) {
                        Some(0..=0x1f | 0x7f) => return Err(Reason::ControlEscape),
                        Some(_) => {}
                        None => return Err(Reason::BrokenEscape),
                    },
                    _ => return Err(Reason::BrokenEscape),
                }
            }
            _ => {}
        }
    }
    let has_dots = if escaped {
        has_dot_segment(&decode_for_dots(&decode_for_dots(path)))
    } else {
        has_dot_segment(path)
    };
    if has_dots {
        return Err(Reason::DotSegment);
    }
    Ok(())
}

fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|octet| *octet == b'/').any(|segment| {
        // Some servers remove path parameters before they resolve dot segments.
        let name = segment
            .split(|octet| *octet == b';')
            .next()
            .unwrap_or(segment);
        matches!(trim(name), b"." | b"..")
    })
}

/// Decodes once the characters that can form a dot segment or end its name: unreserved characters, slashes of both kinds,
/// the semicolon, and the percent sign. Only the check uses the result; what is forwarded is never decoded.
fn decode_for_dots(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [octet, after @ ..] = rest {
        rest = after;
        let mut octet = *octet;
        if let (b'%', [high, low, tail @ ..]) = (octet, after)
            && let Some(escaped) = decode_hex(*high, *low)
            && (is_unreserved(escaped) || matches!(escaped, b'%' | b'/' | b'\\' | b';'))
        {
            octet = if escaped == b'\\' { b'/' } else { escaped };
            rest = tail;
        }
        decoded.push(octet);
    }
    decoded
}

/// Returns the class of an octet, as a bit.
fn class(octet: u8) -> u8 {
    CLASSES.get(usize::from(octet)).copied().unwrap_or_default()
}

static CLASSES: [u8; 256] = classes();

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which has no iterators in constants"
)]
const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        classes[octet] = match octet as u8 {
            b'#' => FRAGMENT,
            b'?' => QUERY,
            b'%' | b'.' | b'\\' => SPECIAL,
            octet if octet.is_ascii_graphic() => 0,
            _ => NOT_VISIBLE,
        };
        octet += 1;
    }
    classes
}

const FRAGMENT: u8 = 1;
const NOT_VISIBLE: u8 = 2;
const QUERY: u8 = 4;
/// Octets by which a path can be ambiguous, see [`check_path`].
const SPECIAL: u8 = 8;

/// The maximum length of a request target in bytes.
const MAX_TARGET: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_rejected(target: &str, want: Reason) {
        assert_eq!(
            Target::parse(b"GET", target.as_bytes()),
            Err(want),
            "{target}"
        );
    }

    #[test]
    fn a_target_has_at_most_8_kib() {
        let target = format!("/{}", "a".repeat(8 * 1024 - 1));
        assert!(Target::parse(b"GET", target.as_bytes()).is_ok());
        check_rejected(&format!("{target}a"), Reason::TargetTooLong);
    }

    #[test]
    fn rejects_dot_segments_that_are_escaped_up_to_twice() {
        for target in [
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/a/..?x",
            "/%2e%2e/x",
            "/.%2E/x",
            "/a%2f..%2fb",
            "/..%2fx",
            "/..%5cx",
            "/%252e%252e/x",
            "/..%252fx",
            "/..;/x",
            "/.;a=b/x",
            "/..;a",
            "/%25%32%65./x",
            "/..%3bx",
            "/a/.%3Ba=b/x",
            "/%2e%2e%253bx",
        ] {
            check_rejected(target, Reason::DotSegment);
        }
    }

    #[test]
    fn accepts_other_dots_and_escapes() {
        for target in [
            "/...",
            "/a..b",
            "/.well-known/x",
            "/a%2Fb",
            "/a%252Fb",
            "/100%25",
            "/a%3Fb",
            "/a..%3Bb",
            "/a%20b",
            "/%5Cevil",
            "/a;v=1,2/@x:y/!$&'()*+=~",
            "/?a=../b&c=%zz&d=\\",
        ] {
            let got = Target::parse(b"GET", target.as_bytes());
            assert!(got.is_ok(), "{target}: {got:?}");
        }
    }

    #[test]
    fn rejects_ambiguous_targets() {
        check_rejected("/a\\b", Reason::Backslash);
        check_rejected("/%00", Reason::ControlEscape);
        check_rejected("/x%0d%0aSet-Cookie:a", Reason::ControlEscape);
        check_rejected("/%zz", Reason::BrokenEscape);
        check_rejected("/a%2", Reason::BrokenEscape);
        check_rejected("/a#b", Reason::Fragment);
        check_rejected("/a b", Reason::BadOctet);
        check_rejected("/\u{e9}", Reason::BadOctet);
        check_rejected("", Reason::TargetForm);
        check_rejected("*", Reason::TargetForm);
        check_rejected("x", Reason::TargetForm);
        check_rejected("?x=1", Reason::TargetForm);
        check_rejected("ftp://a/b", Reason::TargetForm);
    }

    #[test]
    fn splits_the_absolute_form() {
        let target = Target::parse(b"GET", b"HTTP://other.example:81?q").unwrap();
        assert_eq!(target.authority, Some(b"other.example:81".as_slice()));
        assert_eq!(
            (target.path, target.query),
            (b"/".as_slice(), b"?q".as_slice())
        );
    }
}
