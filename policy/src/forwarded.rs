//! Parses the field lines of `Forwarded`.
//!
//! The parser follows [RFC 7239 §4][grammar]. It is strict where leniency would let one element pass as two: quotes
//! must close, a parameter may occur once in an element, commas and semicolons inside quotes are text. It is lenient only
//! where all parsers agree: white space around separators, empty pairs and empty elements. Each line is parsed
//! separately, so that an invalid line of a client cannot absorb the line of the proxy.
//!
//! [grammar]: https://www.rfc-editor.org/rfc/rfc7239#section-4

use std::borrow::Cow;

use crate::address::trim;
use crate::header::is_token_octet;

/// One element of a `Forwarded` field: what one hop says about the hop before it. `by` and extensions are dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) node: Option<Cow<'a, [u8]>>,
    pub(crate) host: Option<Cow<'a, [u8]>>,
    pub(crate) proto: Option<Cow<'a, [u8]>>,
}

/// Parses one field line; `None` if any part of it is invalid.
pub(crate) fn parse_line(line: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    for element in split_outside_quotes(line, b',') {
        let mut parsed = Element::default();
        let mut names: Vec<&[u8]> = Vec::new();
        for pair in split_outside_quotes(element, b';') {
            let pair = trim(pair);
            if pair.is_empty() {
                continue;
            }
            let equals = pair.iter().position(|octet| *octet == b'=')?;
            let (name, value) = (pair.get(..equals)?, pair.get(equals.checked_add(1)?..)?);
            let repeated = names.iter().any(|other| other.eq_ignore_ascii_case(name));
            if !is_token(name) || repeated || names.len() >= MAX_PARAMETERS {
                return None;
            }
            names.push(name);
            let value = parse_value(value)?;
            if name.eq_ignore_ascii_case(b"for") {
                parsed.node = Some(value);
            } else if name.eq_ignore_ascii_case(b"host") {
                parsed.host = Some(value);
            } else if name.eq_ignore_ascii_case(b"proto") {
                parsed.proto = Some(value);
            }
        }
        if !names.is_empty() {
            elements.push(parsed);
        }
    }
    Some(elements)
}

/// Splits at a separator that is not inside a quoted string. An unterminated quote extends to the end, where
/// [`parse_value`] rejects it.
fn split_outside_quotes(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |octet| {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        !quoted && *octet == separator
    })
}

/// Parses a token or a quoted string, RFC 9110 §5.6.
fn parse_value(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        return is_token(value).then_some(Cow::Borrowed(value));
    };
    let mut text = Vec::with_capacity(inner.len());
    let mut octets = inner.iter();
    loop {
        match octets.next()? {
            b'"' => break,
            b'\\' => text.push(*octets.next().filter(|octet| is_quotable(**octet))?),
            octet => text.push(*Some(octet).filter(|octet| is_quotable(**octet))?),
        }
    }
    octets.as_slice().is_empty().then_some(Cow::Owned(text))
}

/// Returns true for HTAB, SP, visible ASCII and obs-text.
fn is_quotable(octet: u8) -> bool {
    octet == b'\t' || (octet >= b' ' && octet != 0x7f)
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_octet)
}

/// The maximum number of parameters of one element.
const MAX_PARAMETERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the elements, written as `for|host|proto`.
    #[track_caller]
    fn check(line: &str, want: Option<&[&str]>) {
        let text = |value: &Option<Cow<'_, [u8]>>| {
            value.as_ref().map_or("-".to_owned(), |value| {
                String::from_utf8_lossy(value).into_owned()
            })
        };
        let got = parse_line(line.as_bytes()).map(|elements| {
            elements
                .iter()
                .map(|element| {
                    [&element.node, &element.host, &element.proto]
                        .map(text)
                        .join("|")
                })
                .collect::<Vec<_>>()
        });
        let want = want.map(|want| want.iter().map(|&element| element.to_owned()).collect());
        assert_eq!(got, want, "{line}");
    }

    #[test]
    fn valid_lines() {
        check(
            "for=192.0.2.60;proto=http;by=203.0.113.43",
            Some(&["192.0.2.60|-|http"]),
        );
        check("For=a, FOR=b", Some(&["a|-|-", "b|-|-"]));
        check(
            "for=\"[2001:db8::17]:4711\"",
            Some(&["[2001:db8::17]:4711|-|-"]),
        );
        check("for=a,, for=b;;proto=https", Some(&["a|-|-", "b|-|https"]));
        check("for=\"a,b\";host=x, for=c", Some(&["a,b|x|-", "c|-|-"]));
        check(
            "for=\"x, for=6.6.6.6;proto=https\", for=c",
            Some(&["x, for=6.6.6.6;proto=https|-|-", "c|-|-"]),
        );
        check("host=\"a\\\"b\";for=c", Some(&["c|a\"b|-"]));
        check("for=\"\"", Some(&["|-|-"]));
        check("secret=x", Some(&["-|-|-"]));
        check(",", Some(&[]));
        check("", Some(&[]));
    }

    #[test]
    fn invalid_lines() {
        for line in [
            "for",
            "for=",
            "for = a",
            "for=\"a",
            "for=a\"",
            "for=\"a\"b",
            "for=\"a\\",
            "for=a;for=b",
            "for=a;FOR=b",
            "192.0.2.43",
            "for=a b",
            "for=[::1]",
            "for=a:1",
            "for=\"\0\"",
            "f\u{e9}r=a",
        ] {
            check(line, None);
        }
        let many: Vec<String> = (0..33).map(|number| format!("p{number}=x")).collect();
        check(&many.join(";"), None);
    }
}
