//! Defines a header line and finds lines by name.

use crate::address::trim;

/// A field line: name and value as received. Names are compared without case.
pub type Header<'a> = (&'a [u8], &'a [u8]);

/// Returns the values of all lines of a field, in wire order.
pub(crate) fn lines<'a>(headers: &[Header<'a>], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| *value)
}

/// Returns the value of a field that has exactly one line.
pub(crate) fn only_line<'a>(headers: &[Header<'a>], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = lines(headers, name);
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

/// Returns the options of `Connection`, in wire order, without white space around them.
pub(crate) fn connection_options<'a>(headers: &[Header<'a>]) -> impl Iterator<Item = &'a [u8]> {
    lines(headers, b"connection")
        .flat_map(|value| value.split(|octet| *octet == b','))
        .map(trim)
}

/// Compares two header names without case and with `_` read as `-`.
pub(crate) fn is_same_name(one: &[u8], two: &[u8]) -> bool {
    let fold = |octet: &u8| match octet {
        b'_' => b'-',
        octet => octet.to_ascii_lowercase(),
    };
    one.len() == two.len() && one.iter().map(fold).eq(two.iter().map(fold))
}

/// Returns true for a `tchar`, RFC 9110 §5.6.2.
pub(crate) fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// Returns true if a value contains a control octet other than a tab: no field value may, RFC 9110 §5.5.
pub(crate) fn has_control(value: &[u8]) -> bool {
    value
        .iter()
        .any(|octet| octet.is_ascii_control() && *octet != b'\t')
}
