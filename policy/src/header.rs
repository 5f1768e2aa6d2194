//! Defines a header line, finds lines by name, and parses what the grammars of several fields share.

use std::borrow::Cow;

/// A field line: name and value as received. Names are compared without case.
pub type Header<'a> = (&'a [u8], &'a [u8]);

/// Returns the values of all lines of a field, in wire order.
pub(crate) fn lines<'a>(headers: &[Header<'a>], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |(other, _)| is_name(other, name))
        .map(|(_, value)| *value)
}

/// Compares two header names without case.
pub(crate) fn is_name(one: &[u8], two: &[u8]) -> bool {
    // Proxies write names in lower case, and equal octets are found many at a time. Clients of HTTP/1.1 begin with a capital.
    one.len() == two.len()
        && (one.first() == two.first() && one == two || one.eq_ignore_ascii_case(two))
}

/// Returns the value of a field that has exactly one line.
pub(crate) fn only_line<'a>(headers: &[Header<'a>], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = lines(headers, name);
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

/// Compares two header names without case and with `_` read as `-`.
pub(crate) fn is_same_name(one: &[u8], two: &[u8]) -> bool {
    let fold = |octet: &u8| fold(*octet);
    // Most names are spelled in the same way, and equal octets are found many at a time.
    one.len() == two.len() && (one == two || one.iter().map(fold).eq(two.iter().map(fold)))
}

/// Returns an octet of a header name in lower case, and a hyphen for an underscore.
pub(crate) fn fold(octet: u8) -> u8 {
    match octet {
        b'_' => b'-',
        octet => octet.to_ascii_lowercase(),
    }
}

/// Returns true for a `tchar`, RFC 9110 §5.6.2.
pub(crate) fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// Returns true if a value contains a control octet other than a tab: no field value may, RFC 9110 §5.5.
pub fn has_control(value: &[u8]) -> bool {
    let is_control = |octet: &u8| octet.is_ascii_control() && *octet != b'\t';
    // Most values have none, which is found for eight octets at a time.
    let (chunks, rest) = value.as_chunks();
    chunks
        .iter()
        .any(|chunk| may_have_control(*chunk) && chunk.iter().any(is_control))
        || rest.iter().any(is_control)
}

/// Returns true if one of the octets is a tab or another control octet.
fn may_have_control(octets: [u8; 8]) -> bool {
    let each = |octet: u8| u64::from_ne_bytes([octet; 8]);
    let octets = u64::from_ne_bytes(octets);
    let is_deleted = octets ^ each(0x7f);
    // In the lowest octet for which it is true, a borrow sets the highest bit, which is not set in the octet itself.
    let below_space = octets.wrapping_sub(each(b' ')) & !octets;
    let deleted = is_deleted.wrapping_sub(each(1)) & !is_deleted;
    (below_space | deleted) & each(0x80) != 0
}

/// Returns true for an octet that some recipients read as the end of a line or of a text.
pub(crate) fn ends_line(octet: u8) -> bool {
    matches!(octet, b'\r' | b'\n' | 0)
}

/// Splits at a separator that is not inside a quoted string.
pub(crate) fn split_outside_quotes(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quotes = Quotes::default();
    text.split(move |octet| {
        quotes.read(*octet);
        !quotes.is_open && *octet == separator
    })
}

/// Returns true if every quote is closed.
pub(crate) fn closes_quotes(text: &[u8]) -> bool {
    let mut quotes = Quotes::default();
    for octet in text {
        quotes.read(*octet);
    }
    !quotes.is_open
}

/// The quotes that have been read so far.
#[derive(Default)]
struct Quotes {
    is_open: bool,
    is_escaped: bool,
}

impl Quotes {
    fn read(&mut self, octet: u8) {
        match octet {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_open => self.is_escaped = true,
            b'"' => self.is_open = !self.is_open,
            _ => {}
        }
    }
}

/// Parses a token or a quoted string, RFC 9110 §5.6.
pub(crate) fn parse_value(value: &[u8]) -> Option<Cow<'_, [u8]>> {
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

/// Returns true for a `token`, RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_octet_is_found_anywhere_in_a_value() {
        for octet in 0..=u8::MAX {
            let is_control = octet.is_ascii_control() && octet != b'\t';
            for length in 1..20 {
                for place in 0..length {
                    for other in [b'a', b'\t', b' ', 0x80, 0xff] {
                        let mut value = vec![other; length];
                        value[place] = octet;
                        let place = format!("{octet} at {place} of {length} octets {other}");
                        assert_eq!(has_control(&value), is_control, "{place}");
                    }
                }
            }
        }
        assert!(!has_control(b""));
    }
}
