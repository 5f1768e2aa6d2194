//! Reads from a head how its body is framed and what it says about its connection, RFC 9112 §6 and §9.
//!
//! One pass over the fields finds everything. A message whose body has two lengths, or an ambiguous one, is rejected and
//! never forwarded.

use fluxlit_policy::Header;

use crate::http::head::{Version, is_token, trim};

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
    /// An expectation of `100-continue`.
    pub(crate) expects_continue: bool,
    /// An expectation other than `100-continue`.
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
    /// Chunked comes last, after codings that are not supported.
    Unsupported,
    /// Chunked is not the last coding, or occurs twice, so that the end of the body is unknown.
    Unclear,
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

impl Length {
    /// Returns true if there is no content, whether a length was declared or not.
    pub(crate) fn is_empty(self) -> bool {
        matches!(self, Self::Empty | Self::Exact(0))
    }
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
    #[error("Transfer-Encoding does not end with one chunked coding")]
    NotChunked,
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
                    for expectation in elements(value) {
                        if expectation.eq_ignore_ascii_case(b"100-continue") {
                            found.expects_continue = true;
                        } else {
                            found.expects_other = true;
                        }
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
                    found.coding = Some(Coding::read(value));
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

    /// Returns the length of a request's body. A declared length of 0 is kept apart from none, because it is forwarded.
    pub(crate) fn request_length(&self, version: Version) -> Result<Length, LengthError> {
        Ok(self.declared(version)?.unwrap_or(Length::Empty))
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
            return Err(LengthError::NotChunked);
        }
        match (self.coding, self.content_length) {
            (None, length) => Ok(length.map(Length::Exact)),
            (Some(_), Some(_)) => Err(LengthError::Both),
            (Some(_), None) if version == Version::Http10 => Err(LengthError::Version),
            (Some(Coding::Unsupported), None) => Err(LengthError::Coding),
            (Some(Coding::Unclear), None) => Err(LengthError::NotChunked),
            (Some(Coding::Chunked), None) => Ok(Some(Length::Chunked)),
        }
    }
}

impl Coding {
    /// Reads the value of `Transfer-Encoding`. Only whole lists of tokens are read, because recipients differ about anything
    /// else.
    fn read(value: &[u8]) -> Self {
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        if is_chunked(value) {
            return Self::Chunked;
        }
        let mut codings = value.split(|octet| *octet == b',').map(trim).rev();
        let ends_chunked = codings.next().is_some_and(is_chunked);
        if ends_chunked && codings.all(|coding| is_token(coding) && !is_chunked(coding)) {
            Self::Unsupported
        } else {
            Self::Unclear
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
            (&[(CL, "0")], Ok(Length::Exact(0))),
            (&[(CL, "007")], Ok(Length::Exact(7))),
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
            (
                &[(TE, "gzip ,\tdeflate, CHUNKED")],
                Err(LengthError::Coding),
            ),
            (&[(TE, "identity, chunked")], Err(LengthError::Coding)),
            (&[(TE, "chunked, gzip")], Err(LengthError::NotChunked)),
            (&[(TE, "chunked, identity")], Err(LengthError::NotChunked)),
            (&[(TE, "chunked, chunked")], Err(LengthError::NotChunked)),
            (
                &[(TE, "chunked, gzip, chunked")],
                Err(LengthError::NotChunked),
            ),
            (&[(TE, "gzip")], Err(LengthError::NotChunked)),
            (&[(TE, "gzip;q=1, chunked")], Err(LengthError::NotChunked)),
            (&[(TE, "chunked;q=1")], Err(LengthError::NotChunked)),
            (&[(TE, ", chunked")], Err(LengthError::NotChunked)),
            (&[(TE, "chunked,")], Err(LengthError::NotChunked)),
            (&[(TE, "gzip chunked")], Err(LengthError::NotChunked)),
            (&[(TE, "")], Err(LengthError::NotChunked)),
            (
                &[(TE, "chunked"), (TE, "chunked")],
                Err(LengthError::NotChunked),
            ),
            (
                &[(TE, "gzip"), (TE, "chunked")],
                Err(LengthError::NotChunked),
            ),
            (&[(TE, "identity")], Err(LengthError::NotChunked)),
            (&[(TE, "\u{b}chunked")], Err(LengthError::NotChunked)),
            (&[(TE, "gzip"), (CL, "1")], Err(LengthError::Both)),
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
        let zero = of(&[("content-length", "0")]);
        assert_eq!(length(&zero, 200, false), Ok(Length::Exact(0)));
        let chunked = of(&[("transfer-encoding", "chunked")]);
        assert_eq!(length(&chunked, 200, false), Ok(Length::Chunked));
        assert_eq!(length(&chunked, 200, true), Ok(Length::Empty));
        for status in [199, 205, 303, 305] {
            let expected = if status == 199 {
                Length::Empty
            } else {
                Length::Exact(5)
            };
            assert_eq!(length(&with, status, false), Ok(expected), "{status}");
        }
        let invalid = of(&[("content-length", "x")]);
        assert_eq!(length(&invalid, 200, true), Err(LengthError::Length));
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
        assert!(!of(&[("upgrade", "websocket")]).is_websocket());
        assert!(!of(&[("connection", "upgrade"), ("upgrade", "h2c")]).is_websocket());
        assert!(of(&[]).persists(Version::Http11));
        assert!(!of(&[("connection", "keep-alive, close")]).persists(Version::Http10));
        assert!(!of(&[("connection", "keep-alive, close, upgrade")]).nominates);
        assert!(Length::Empty.is_empty() && Length::Exact(0).is_empty());
        assert!(!Length::Exact(1).is_empty() && !Length::Chunked.is_empty());
        assert!(!Length::UntilEnd.is_empty());
    }

    #[test]
    fn expectations() {
        for (fields, expects_continue, expects_other) in [
            (&[][..], false, false),
            (&[("expect", "100-Continue")], true, false),
            (&[("expect", "100-continue, 100-continue")], true, false),
            (
                &[("expect", "100-continue"), ("Expect", "100-continue")],
                true,
                false,
            ),
            (&[("expect", "")], false, false),
            (&[("expect", "tea")], false, true),
            (&[("expect", "100-continue, tea")], true, true),
            (&[("expect", "tea"), ("expect", "100-continue")], true, true),
            (&[("expect", "100-continue;q=1")], false, true),
            (&[("expect", "100")], false, true),
        ] {
            let framing = of(fields);
            assert_eq!(
                (framing.expects_continue, framing.expects_other),
                (expects_continue, expects_other),
                "{fields:?}"
            );
        }
    }
    #[test]
    fn fields_and_options_that_resemble_known_ones_have_no_meaning() {
        for (name, value) in [
            ("expert", "100-continue"),
            ("unknown", "websocket"),
            ("cache-hits", "close, upgrade"),
            ("content-policy", "5"),
            ("transfer-decoding", "chunked"),
        ] {
            assert_eq!(of(&[(name, value)]), Framing::default(), "{name}");
        }
        for option in ["other", "x-seven", "x-optional", "x"] {
            let want = Framing {
                nominates: true,
                ..Framing::default()
            };
            assert_eq!(of(&[("connection", option)]), want, "{option}");
        }
    }
}
