//! Parses the field lines of `Forwarded`.
//!
//! The parser follows [RFC 7239 §4][grammar]. It is strict where leniency would let one element pass as two: quotes
//! must close, a parameter may occur once in an element, commas and semicolons inside quotes are text. It is lenient only
//! where all parsers agree: white space around separators, empty pairs and empty elements. Elements are parsed one by one,
//! so that an invalid element of a client does not hide the element that the proxy appended.
//!
//! [grammar]: https://www.rfc-editor.org/rfc/rfc7239#section-4

use std::borrow::Cow;

use crate::address::trim;
use crate::header::{closes_quotes, is_token, parse_value, split_outside_quotes};

/// One element of a `Forwarded` field: what one hop says about the hop before it. `by` and extensions are dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) node: Option<Cow<'a, [u8]>>,
    pub(crate) host: Option<Cow<'a, [u8]>>,
    pub(crate) proto: Option<Cow<'a, [u8]>>,
}

/// Parses one field line into its elements; `None` stands for an invalid element. A line whose quotes do not close is one
/// invalid element, because it cannot be split.
pub(crate) fn parse_line(line: &[u8]) -> Vec<Option<Element<'_>>> {
    if !closes_quotes(line) {
        return vec![None];
    }
    split_outside_quotes(line, b',')
        .filter(|element| {
            let is_empty = |octet| matches!(octet, b' ' | b'\t' | b';');
            !element.iter().copied().all(is_empty)
        })
        .map(parse_element)
        .collect()
}

/// Parses one element; `None` if any part of it is invalid.
fn parse_element(element: &[u8]) -> Option<Element<'_>> {
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
    Some(parsed)
}

/// The maximum number of parameters of one element.
const MAX_PARAMETERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the elements, written as `for|host|proto`, or `invalid`.
    #[track_caller]
    fn check(line: &str, want: &[&str]) {
        let text = |value: &Option<Cow<'_, [u8]>>| {
            value.as_ref().map_or("-".to_owned(), |value| {
                String::from_utf8_lossy(value).into_owned()
            })
        };
        let got: Vec<String> = parse_line(line.as_bytes())
            .iter()
            .map(|element| match element {
                Some(element) => [&element.node, &element.host, &element.proto]
                    .map(text)
                    .join("|"),
                None => "invalid".to_owned(),
            })
            .collect();
        assert_eq!(got, want, "{line}");
    }

    #[test]
    fn valid_lines() {
        check(
            "for=192.0.2.60;proto=http;by=203.0.113.43",
            &["192.0.2.60|-|http"],
        );
        check("For=a, FOR=b", &["a|-|-", "b|-|-"]);
        check("for=\"[2001:db8::17]:4711\"", &["[2001:db8::17]:4711|-|-"]);
        check("for=a,, for=b;;proto=https", &["a|-|-", "b|-|https"]);
        check("for=\"a,b\";host=x, for=c", &["a,b|x|-", "c|-|-"]);
        check(
            "for=\"x, for=6.6.6.6;proto=https\", for=c",
            &["x, for=6.6.6.6;proto=https|-|-", "c|-|-"],
        );
        check("host=\"a\\\"b\";for=c", &["c|a\"b|-"]);
        check("for=\"\"", &["|-|-"]);
        check("secret=x", &["-|-|-"]);
        check(",", &[]);
        check("", &[]);
    }

    #[test]
    fn invalid_elements() {
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
            check(line, &["invalid"]);
        }
        let many: Vec<String> = (0..33).map(|number| format!("p{number}=x")).collect();
        check(&many.join(";"), &["invalid"]);
    }

    #[test]
    fn an_invalid_element_does_not_affect_the_others() {
        check("for=a;for=b, for=c", &["invalid", "c|-|-"]);
        check("for=c, =, for=d", &["c|-|-", "invalid", "d|-|-"]);
        check("for=a\"b, c\"d, for=e", &["invalid", "e|-|-"]);
        check("for=\"a, for=c", &["invalid"]);
        // Outside a quoted string, a backslash does not escape the quote.
        check("for=a\\\", for=c", &["invalid"]);
        check("for=c, for=\"a", &["invalid"]);
    }
}
