//! What does a `Forwarded` field line say?
//!
//! [RFC 7239 §4][grammar], read strictly where leniency would let one element pose as two: quotes must close, a
//! parameter may occur once in an element, commas and semicolons inside quotes are text. Lenient only where every
//! reader agrees: white space around separators, empty pairs and empty elements. Each line is read on its own, so that
//! a client's broken line cannot swallow the proxy's.
//!
//! [grammar]: https://www.rfc-editor.org/rfc/rfc7239#section-4

use std::borrow::Cow;

use crate::address::trim;

/// One element of a `Forwarded` field: what one hop says of the one before it. `by` and extensions are not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) node: Option<Cow<'a, [u8]>>,
    pub(crate) host: Option<Cow<'a, [u8]>>,
    pub(crate) proto: Option<Cow<'a, [u8]>>,
}

/// Reads one field line; `None` if it does not parse as a whole.
pub(crate) fn read_line(line: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    for element in split_outside_quotes(line, b',') {
        let mut read = Element::default();
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
            let value = read_value(value)?;
            if name.eq_ignore_ascii_case(b"for") {
                read.node = Some(value);
            } else if name.eq_ignore_ascii_case(b"host") {
                read.host = Some(value);
            } else if name.eq_ignore_ascii_case(b"proto") {
                read.proto = Some(value);
            }
        }
        if !names.is_empty() {
            elements.push(read);
        }
    }
    Some(elements)
}

/// Splits at a separator that is not inside a quoted string. An unterminated quote reaches to the end, where
/// [`read_value`] refuses it.
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

/// Reads a token or a quoted string, RFC 9110 §5.6.
fn read_value(value: &[u8]) -> Option<Cow<'_, [u8]>> {
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

/// HTAB, SP, visible ASCII and obs-text.
fn is_quotable(octet: u8) -> bool {
    octet == b'\t' || (octet >= b' ' && octet != 0x7f)
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_octet)
}

/// `tchar` of RFC 9110 §5.6.2.
pub(crate) fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// Most parameters of one element.
const MAX_PARAMETERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements as `for|host|proto`.
    #[track_caller]
    fn check(line: &str, want: Option<&[&str]>) {
        let text = |value: &Option<Cow<'_, [u8]>>| {
            value.as_ref().map_or("-".to_owned(), |value| {
                String::from_utf8_lossy(value).into_owned()
            })
        };
        let got = read_line(line.as_bytes()).map(|elements| {
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
    fn what_the_grammar_allows() {
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
    fn what_it_does_not() {
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
