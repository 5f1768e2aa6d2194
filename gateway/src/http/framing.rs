//! Reads from a head how its body is framed and what it says about its connection, RFC 9112 §6 and §9.
//!
//! One pass over the fields finds everything. A message whose body has two lengths, or an ambiguous one, is rejected and
//! never forwarded.

use fluxlit_policy::Header;

use crate::http::head::{Version, trim};

/// What the fields of a head mean for this hop.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Framing {
    content_length: Option<u64>,
    coding: Option<Coding>,
    /// `Connection: close`.
    pub(crate) closes: bool,
    /// `Connection: keep-alive`, which HTTP/1.0 needs.
    pub(crate) keeps_alive: bool,
    /// `Connection: upgrade`.
    upgrades: bool,
    /// `Upgrade: websocket`.
    names_websocket: bool,
    /// `Expect: 100-continue`.
    pub(crate) expects_continue: bool,
    /// An `Expect` other than `100-continue`.
    pub(crate) expects_other: bool,
    /// True if `Connection` nominates fields of this message.
    pub(crate) nominates: bool,
    faults: Faults,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Faults {
    two_lengths: bool,
    bad_length: bool,
    two_codings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

/// The length of a body, RFC 9112 §6.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// No body.
    Empty,
    /// Number of bytes.
    Exact(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Until the connection is closed; in responses only.
    UntilEnd,
}

/// The error when the length of a body is invalid or ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LengthError {
    #[error("Content-Length is not exactly one number")]
    Length,
    #[error("both Content-Length and Transfer-Encoding")]
    Both,
    #[error("a transfer coding other than chunked")]
    Coding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    Version,
}

impl Framing {
    /// Reads the fields of a head in one pass.
    pub(crate) fn of(fields: &[Header<'_>]) -> Self {
        let mut found = Self::default();
        for (name, value) in fields {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            // Length and first letter rule out most fields.
            let first = name.first().map_or(0, |first| first | 0x20);
            if !matches!(
                (name.len(), first),
                (6, b'e') | (7, b'u') | (10 | 14, b'c') | (17, b't')
            ) {
                continue;
            }
            match name.len() {
                6 if is("expect") => {
                    if value.eq_ignore_ascii_case(b"100-continue") {
                        found.expects_continue = true;
                    } else {
                        found.expects_other = true;
                    }
                }
                7 if is("upgrade") => {
                    found.names_websocket |=
                        elements(value).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
                }
                10 if is("connection") => found.read_options(value),
                14 if is("content-length") => {
                    found.faults.two_lengths |= found.content_length.is_some();
                    match read_length(value) {
                        Some(length) => found.content_length = Some(length),
                        None => found.faults.bad_length = true,
                    }
                }
                17 if is("transfer-encoding") => {
                    found.faults.two_codings |= found.coding.is_some();
                    found.coding = Some(if value.eq_ignore_ascii_case(b"chunked") {
                        Coding::Chunked
                    } else {
                        Coding::Other
                    });
                }
                _ => {}
            }
        }
        found
    }

    fn read_options(&mut self, value: &[u8]) {
        for option in elements(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.closes = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrades = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keeps_alive = true,
                _ => self.nominates = true,
            }
        }
    }

    /// Returns true for a WebSocket handshake, RFC 6455 §4, or the response to one.
    pub(crate) fn is_websocket(&self) -> bool {
        self.upgrades && self.names_websocket
    }

    /// Returns true if the connection may carry another message after this one, RFC 9112 §9.3.
    pub(crate) fn persists(&self, version: Version) -> bool {
        !self.closes && (version == Version::Http11 || self.keeps_alive)
    }

    /// Returns the length of a request's body.
    pub(crate) fn request_length(&self, version: Version) -> Result<Length, LengthError> {
        Ok(match self.declared(version)? {
            None | Some(Length::Exact(0)) => Length::Empty,
            Some(length) => length,
        })
    }

    /// Returns the length of the body of a response with this status. `is_head`: true if it responds to HEAD.
    pub(crate) fn response_length(
        &self,
        version: Version,
        status: u16,
        is_head: bool,
    ) -> Result<Length, LengthError> {
        let declared = self.declared(version)?;
        if is_head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Length::Empty);
        }
        Ok(declared.unwrap_or(Length::UntilEnd))
    }

    fn declared(&self, version: Version) -> Result<Option<Length>, LengthError> {
        if self.faults.two_lengths || self.faults.bad_length {
            return Err(LengthError::Length);
        }
        if self.faults.two_codings {
            return Err(LengthError::Coding);
        }
        match (self.coding, self.content_length) {
            (None, length) => Ok(length.map(Length::Exact)),
            (Some(_), Some(_)) => Err(LengthError::Both),
            (Some(_), None) if version == Version::Http10 => Err(LengthError::Version),
            (Some(Coding::Other), None) => Err(LengthError::Coding),
            (Some(Coding::Chunked), None) => Ok(Some(Length::Chunked)),
        }
    }
}

fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|octet| *octet == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Parses digits without a sign. Returns `None` on overflow.
fn read_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, octet| {
        let digit = octet.is_ascii_digit().then(|| u64::from(octet - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &'static str)]) -> Framing {
        let fields: Vec<Header<'_>> = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        Framing::of(&fields)
    }

    #[test]
    fn lengths_of_requests() {
        const CL: &str = "Content-Length";
        const TE: &str = "Transfer-Encoding";
        for (fields, want) in [
            (&[][..], Ok(Length::Empty)),
            (&[(CL, "0")], Ok(Length::Empty)),
            (&[(CL, "12")], Ok(Length::Exact(12))),
            (&[(TE, "Chunked")], Ok(Length::Chunked)),
            (&[(CL, "1"), (TE, "chunked")], Err(LengthError::Both)),
            (&[(CL, "1"), (CL, "1")], Err(LengthError::Length)),
            (&[(CL, "1, 1")], Err(LengthError::Length)),
            (&[(CL, "+1")], Err(LengthError::Length)),
            (&[(CL, "0x1")], Err(LengthError::Length)),
            (&[(CL, "")], Err(LengthError::Length)),
            (&[(CL, "18446744073709551616")], Err(LengthError::Length)),
            (&[(TE, "gzip, chunked")], Err(LengthError::Coding)),
            (&[(TE, "chunked, chunked")], Err(LengthError::Coding)),
            (
                &[(TE, "chunked"), (TE, "chunked")],
                Err(LengthError::Coding),
            ),
            (&[(TE, "identity")], Err(LengthError::Coding)),
            (&[(TE, "\u{b}chunked")], Err(LengthError::Coding)),
        ] {
            assert_eq!(
                of(fields).request_length(Version::Http11),
                want,
                "{fields:?}"
            );
        }
        let coded = of(&[(TE, "chunked")]);
        assert_eq!(
            coded.request_length(Version::Http10),
            Err(LengthError::Version)
        );
    }

    #[test]
    fn lengths_of_responses() {
        let with = of(&[("content-length", "5")]);
        let without = of(&[]);
        let length = |framing: &Framing, status, is_head| {
            framing.response_length(Version::Http11, status, is_head)
        };
        assert_eq!(length(&with, 200, false), Ok(Length::Exact(5)));
        assert_eq!(length(&without, 200, false), Ok(Length::UntilEnd));
        for (status, is_head) in [(200, true), (204, false), (304, false), (101, false)] {
            assert_eq!(length(&with, status, is_head), Ok(Length::Empty));
        }
    }

    #[test]
    fn options() {
        let keep = of(&[("connection", "Keep-Alive"), ("CONNECTION", "x-a, upgrade")]);
        assert!(keep.keeps_alive && keep.nominates && !keep.closes);
        assert!(keep.persists(Version::Http10) && !keep.is_websocket());
        assert!(!of(&[("connection", "close")]).persists(Version::Http11));
        assert!(!of(&[]).persists(Version::Http10));
        assert!(of(&[("connection", "upgrade"), ("upgrade", "h2c, WebSocket")]).is_websocket());
        assert!(of(&[("expect", "100-Continue")]).expects_continue);
        assert!(of(&[("expect", "tea")]).expects_other);
    }
}
