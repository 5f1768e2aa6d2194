//! Finds the request fields that the policy reads.
//!
//! Most requests have few of them. One pass over the lines finds out which, so that no line is read again for a field that
//! is absent.

use crate::address::trim;
use crate::header::{Header, is_name};

/// A request field that the policy reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Connection,
    ContentType,
    Forwarded,
    Upgrade,
    XEnvoyOriginalPath,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedPrefix,
    XForwardedProto,
    XRealIp,
}

/// The lines of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    lines: &'a [Header<'a>],
    /// A bit for each [`Field`].
    present: u16,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(lines: &'a [Header<'a>]) -> Self {
        let present = lines
            .iter()
            .filter_map(|(name, _)| Field::find(name))
            .fold(0, |present, field| present | field.bit());
        Self { lines, present }
    }

    /// Returns all lines, in wire order.
    pub(crate) fn all(&self) -> &'a [Header<'a>] {
        self.lines
    }

    /// Returns true if the request has one of these fields.
    pub(crate) fn has_any(&self, fields: &[Field]) -> bool {
        fields.iter().any(|field| self.present & field.bit() != 0)
    }

    /// Returns the values of all lines of a field, in wire order.
    pub(crate) fn lines(
        &self,
        field: Field,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone + use<'a> {
        let name = field.name();
        let lines = if self.has_any(&[field]) {
            self.lines
        } else {
            &[]
        };
        lines
            .iter()
            .filter(move |(other, _)| is_name(other, name))
            .map(|(_, value)| *value)
    }

    /// Returns the value of a field that has exactly one line.
    pub(crate) fn only_line(&self, field: Field) -> Option<&'a [u8]> {
        let mut lines = self.lines(field);
        let line = lines.next()?;
        lines.next().is_none().then_some(line)
    }

    /// Returns the options of `Connection`, in wire order, without white space around them.
    pub(crate) fn connection_options(&self) -> impl Iterator<Item = &'a [u8]> {
        self.lines(Field::Connection)
            .flat_map(|value| value.split(|octet| *octet == b','))
            .map(trim)
    }
}

impl Field {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Connection => b"connection",
            Self::ContentType => b"content-type",
            Self::Forwarded => b"forwarded",
            Self::Upgrade => b"upgrade",
            Self::XEnvoyOriginalPath => b"x-envoy-original-path",
            Self::XForwardedFor => b"x-forwarded-for",
            Self::XForwardedHost => b"x-forwarded-host",
            Self::XForwardedPort => b"x-forwarded-port",
            Self::XForwardedPrefix => b"x-forwarded-prefix",
            Self::XForwardedProto => b"x-forwarded-proto",
            Self::XRealIp => b"x-real-ip",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }

    fn find(name: &[u8]) -> Option<Self> {
        // Most names are told apart by their length.
        let candidates: &[Self] = match name.len() {
            7 => &[Self::Upgrade],
            9 => &[Self::Forwarded, Self::XRealIp],
            10 => &[Self::Connection],
            12 => &[Self::ContentType],
            15 => &[Self::XForwardedFor],
            16 => &[Self::XForwardedHost, Self::XForwardedPort],
            17 => &[Self::XForwardedProto],
            18 => &[Self::XForwardedPrefix],
            21 => &[Self::XEnvoyOriginalPath],
            _ => return None,
        };
        let mut candidates = candidates.iter().copied();
        candidates.find(|field| is_name(name, field.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_found_in_any_case() {
        for field in [
            Field::Connection,
            Field::ContentType,
            Field::Forwarded,
            Field::Upgrade,
            Field::XEnvoyOriginalPath,
            Field::XForwardedFor,
            Field::XForwardedHost,
            Field::XForwardedPort,
            Field::XForwardedPrefix,
            Field::XForwardedProto,
            Field::XRealIp,
        ] {
            let name = field.name().to_ascii_uppercase();
            let headers: [Header<'_>; 3] = [(&name, b"1"), (b"x-other", b"2"), (&name, b"3")];
            let fields = Fields::of(&headers);
            let lines: Vec<&[u8]> = fields.lines(field).collect();
            assert_eq!(lines, [b"1", b"3"], "{field:?}");
            assert_eq!(fields.present.count_ones(), 1, "{field:?}");
            assert_eq!(fields.only_line(field), None);
            assert_eq!(
                Fields::of(&headers[..2]).only_line(field),
                Some(b"1".as_slice())
            );
            assert!(Fields::of(&headers[1..2]).lines(field).next().is_none());
        }
    }

    #[test]
    fn similar_names_are_other_fields() {
        let headers: [Header<'_>; 3] = [
            (b"x_forwarded_for", b"1"),
            (b"x-forwarded-fox", b"2"),
            (b"", b"3"),
        ];
        assert_eq!(Fields::of(&headers).present, 0);
    }
}
