//! Rewrites the URLs in a `Link` header, RFC 8288.
//!
//! A line is a list of links: a target in angle brackets and parameters, of which `anchor` is a URL too. It is parsed by the
//! steps of [RFC 8288 appendix B.2], which browsers follow as well; white space around names and empty parameters are
//! accepted there. Text that does not change is kept byte for byte.
//!
//! A link that cannot be parsed is removed, because a more lenient client could find a URL in it that was not rewritten. The
//! links to its left and right stay; a link is a hint, so that nothing depends on it.
//!
//! [RFC 8288 appendix B.2]: https://www.rfc-editor.org/rfc/rfc8288#appendix-B.2

use std::borrow::Cow;

use crate::address::trim;
use crate::header::{has_control, is_token_octet, parse_value};

/// Rewrites the URLs of a line by `rewrite`, which returns `None` for a URL that must not be sent; `None` if no link is left.
pub(crate) fn rewrite_links(
    line: &[u8],
    rewrite: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    if has_control(line) {
        return None;
    }
    let links: Vec<&[u8]> = split_links(line);
    let rewritten: Vec<Vec<u8>> = links
        .iter()
        .copied()
        .filter_map(|link| rewrite_link(link, rewrite))
        .collect();
    // An empty line has one empty element.
    let is_left =
        rewritten.len() == links.len() || rewritten.iter().any(|link| !trim(link).is_empty());
    is_left.then(|| rewritten.join(b",".as_slice()))
}

/// Splits a line at the commas outside of targets and quoted strings.
fn split_links(line: &[u8]) -> Vec<&[u8]> {
    let mut place = Place::Start;
    line.split(|octet| {
        let is_comma = *octet == b',' && matches!(place, Place::Start | Place::Outside);
        place = match (place, octet) {
            _ if is_comma => Place::Start,
            (Place::Start, b' ' | b'\t') => Place::Start,
            (Place::Start, b'<') => Place::Target,
            (Place::Target, b'>') | (Place::Quoted, b'"') | (Place::Start, _) => Place::Outside,
            (Place::Outside, b'"') => Place::Quoted,
            (Place::Quoted, b'\\') => Place::Escaped,
            (Place::Escaped, _) => Place::Quoted,
            (place, _) => place,
        };
        is_comma
    })
    .collect()
}

/// Where in a link an octet is.
#[derive(Clone, Copy)]
enum Place {
    /// Before its first octet.
    Start,
    /// Between the angle brackets.
    Target,
    /// In the parameters.
    Outside,
    /// In a quoted string.
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
}

/// Rewrites one link; `None` if it cannot be parsed or must not be sent. An empty element of the list is kept.
fn rewrite_link(link: &[u8], rewrite: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let start = skip_space(link);
    if start.is_empty() {
        return Some(link.to_vec());
    }
    let inner = start.strip_prefix(b"<")?;
    let end = inner.iter().position(|octet| *octet == b'>')?;
    let (target, parameters) = inner.split_at_checked(end)?;
    let lead = link.get(..link.len().checked_sub(inner.len())?)?;
    let mut rewritten = [lead, &rewrite(target)?, b">"].concat();
    let mut rest = parameters.strip_prefix(b">")?;
    while !skip_space(rest).is_empty() {
        let after_semicolon = skip_space(rest).strip_prefix(b";")?;
        let (parameter, after) = Parameter::split(after_semicolon)?;
        let before_value = rest.get(..rest.len().checked_sub(parameter.len)?)?;
        rewritten.extend_from_slice(before_value);
        rewritten.extend_from_slice(&parameter.rewrite(rewrite)?);
        rest = after;
    }
    rewritten.extend_from_slice(rest);
    Some(rewritten)
}

/// A parameter of a link.
struct Parameter<'a> {
    name: &'a [u8],
    /// As written, with quotes if it has them; empty if there is none.
    value: &'a [u8],
    /// The number of octets from the value to the end of the link.
    len: usize,
}

impl<'a> Parameter<'a> {
    /// Splits what follows a semicolon into the parameter and the rest.
    fn split(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let start = skip_space(text);
        let (name, after_name) = split_while(start, is_token_octet);
        let Some(value) = skip_space(after_name).strip_prefix(b"=") else {
            let parameter = Self {
                name,
                value: b"",
                len: after_name.len(),
            };
            return Some((parameter, after_name));
        };
        if name.is_empty() {
            return None;
        }
        let value = skip_space(value);
        let (value, rest) = if value.starts_with(b"\"") {
            value.split_at_checked(quoted_len(value)?)?
        } else {
            split_while(value, |octet| !b" \t;<>\"".contains(&octet))
        };
        let len = value.len().checked_add(rest.len())?;
        Some((Self { name, value, len }, rest))
    }

    /// Returns the value with its URL rewritten, if it is one.
    fn rewrite(&self, rewrite: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Cow<'a, [u8]>> {
        if !self.name.eq_ignore_ascii_case(b"anchor") || self.value.is_empty() {
            return Some(Cow::Borrowed(self.value));
        }
        let url = match self.value {
            [b'"', ..] => parse_value(self.value)?,
            value => Cow::Borrowed(value),
        };
        let rewritten = rewrite(&url)?;
        if *rewritten == *url {
            return Some(Cow::Borrowed(self.value));
        }
        let mut quoted = vec![b'"'];
        for octet in rewritten {
            if matches!(octet, b'"' | b'\\') {
                quoted.push(b'\\');
            }
            quoted.push(octet);
        }
        quoted.push(b'"');
        Some(Cow::Owned(quoted))
    }
}

/// Returns the length of the quoted string at the start; `None` if it does not close.
fn quoted_len(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    let end = text.iter().skip(1).position(|octet| {
        let is_end = *octet == b'"' && !is_escaped;
        is_escaped = *octet == b'\\' && !is_escaped;
        is_end
    })?;
    end.checked_add(2)
}

fn split_while(text: &[u8], is_part: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|octet| !is_part(*octet));
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, b""))
}

fn skip_space(text: &[u8]) -> &[u8] {
    split_while(text, |octet| matches!(octet, b' ' | b'\t')).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, want: Option<&str>) {
        let rewrite = |url: &[u8]| {
            (url != b"/bad").then(|| match url.strip_prefix(b"/") {
                Some(path) => [b"/m/", path].concat(),
                None => url.to_vec(),
            })
        };
        let got = rewrite_links(line.as_bytes(), &rewrite);
        let got = got.map(|got| String::from_utf8(got).unwrap());
        assert_eq!(got.as_deref(), want, "{line}");
    }

    #[test]
    fn targets_and_anchors_are_rewritten() {
        for (line, want) in [
            ("", ""),
            ("</x>", "</m/x>"),
            ("  < /x>;rel=next", "  < /x>;rel=next"),
            (
                "</x>; rel=\"a, b\"; anchor=\"/y\" , <x>;anchor=/z",
                "</m/x>; rel=\"a, b\"; anchor=\"/m/y\" , <x>;anchor=\"/m/z\"",
            ),
            ("</a,b>; rel=next,</c>", "</m/a,b>; rel=next,</m/c>"),
            (
                "</x>;title=\"\\\"</y>\\\"\";Anchor = \"\\/y\"",
                "</m/x>;title=\"\\\"</y>\\\"\";Anchor = \"/m/y\"",
            ),
            ("</x>;;rel=a;", "</m/x>;;rel=a;"),
            ("</x>; crossorigin", "</m/x>; crossorigin"),
            ("</x>;anchor", "</m/x>;anchor"),
            ("</x>; anchor=\"\"", "</m/x>; anchor=\"\""),
            ("</x>; type=text/css", "</m/x>; type=text/css"),
            ("</x>; title=/y", "</m/x>; title=/y"),
            (
                "</x>; title=\"a\\\", b\", </y>",
                "</m/x>; title=\"a\\\", b\", </m/y>",
            ),
            ("</a>, </b,c>", "</m/a>, </m/b,c>"),
            (",</x>, ,", ",</m/x>, ,"),
            ("<x>; rel=next", "<x>; rel=next"),
        ] {
            check(line, Some(want));
        }
    }

    #[test]
    fn only_a_link_that_cannot_be_parsed_is_removed() {
        for (line, want) in [
            ("</a>, x, </b>", Some("</m/a>, </m/b>")),
            ("</a>, </bad>, </b>", Some("</m/a>, </m/b>")),
            ("</a>, </b>;anchor=/bad", Some("</m/a>")),
            ("</a>, </b> rel=x, </c>", Some("</m/a>, </m/c>")),
            ("</a>;rel=\"x\"y, </b>", Some(" </m/b>")),
            ("</a>;=x, </b>", Some(" </m/b>")),
            ("</a>, </b>; rel=\"x, </c>", Some("</m/a>")),
            ("</a>, </b, </c", Some("</m/a>")),
            ("x </b>, </c>", Some(" </m/c>")),
            ("/x", None),
            ("</bad>", None),
            ("</bad>, ", None),
            ("</x>\u{1}", None),
        ] {
            check(line, want);
        }
    }
}
