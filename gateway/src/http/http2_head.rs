//! Reads the head of an HTTP/2 request from its field lines, RFC 9113 §8, and checks trailer sections.
//!
//! What HTTP/1.1 can say as well is checked by the same rules as there: methods, field names and values, and that
//! the target fits into a request line. The policy judges target and host. What only HTTP/2 can say, such as a pseudo-header field after
//! another field, makes the message malformed, RFC 9113 §8.1.1.

use fluxlit_policy::Header;

use crate::http::head::{HeadError, is_token, is_value};
use crate::http::hpack::FieldLines;

/// The head of a request. Invalid lines are left out, and `fault` tells of the first one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Http2Head<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) scheme: Option<&'a [u8]>,
    pub(crate) authority: Option<&'a [u8]>,
    pub(crate) path: Option<&'a [u8]>,
    pub(crate) protocol: Option<&'a [u8]>,
    /// The values of `host`.
    pub(crate) hosts: Vec<&'a [u8]>,
    /// The other field lines, in order.
    pub(crate) fields: Vec<Header<'a>>,
    pub(crate) fault: Option<Http2HeadError>,
}

/// The error when the head of a request is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http2HeadError {
    /// Malformed in a way that HTTP/1.1 does not have: a stream error, RFC 9113 §8.1.1.
    Malformed,
    Method,
    /// The path has an octet that ends or breaks a request line of HTTP/1.1.
    Path,
    Scheme,
    /// As over HTTP/1.1.
    Head(HeadError),
}

/// The error when a trailer section cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrailersError {
    Malformed,
    TooLarge,
}

impl<'a> Http2Head<'a> {
    /// Reads the lines of a request.
    pub(crate) fn read(lines: &'a FieldLines) -> Self {
        let mut head = Self {
            fields: Vec::with_capacity(lines.len()),
            ..Self::default()
        };
        let mut method = None;
        let (mut has_fields, mut is_malformed) = (false, false);
        for (name, value) in lines.iter() {
            if let [b':', rest @ ..] = name {
                let slot = match rest {
                    b"authority" => &mut head.authority,
                    b"method" => &mut method,
                    b"path" => &mut head.path,
                    b"protocol" => &mut head.protocol,
                    b"scheme" => &mut head.scheme,
                    _ => {
                        is_malformed = true;
                        continue;
                    }
                };
                // Once each, and before all other fields, RFC 9113 §8.3.
                is_malformed |= slot.is_some() || has_fields;
                *slot = Some(value);
                continue;
            }
            has_fields = true;
            is_malformed |= is_reserved(name, value);
            if !is_field(name, value) {
                head.fault
                    .get_or_insert(Http2HeadError::Head(HeadError::Field));
            } else if name == b"host" {
                head.hosts.push(value);
            } else {
                head.fields.push((name, value));
            }
        }
        head.method = method.unwrap_or_default();
        if !is_token(head.method) {
            head.fault = Some(Http2HeadError::Method);
        } else if head.scheme.is_some_and(|scheme| !is_scheme(scheme)) {
            head.fault = Some(Http2HeadError::Scheme);
        } else if head.path.is_some_and(|path| !is_line_part(path)) {
            head.fault = Some(Http2HeadError::Path);
        } else if head.authority.is_some_and(|authority| !is_value(authority)) {
            head.fault = Some(Http2HeadError::Head(HeadError::Field));
        }
        if lines.is_truncated {
            // The missing lines may be those that are required.
            head.fault = Some(Http2HeadError::Head(HeadError::TooLarge));
        } else if is_malformed || method.is_none() || !head.has_the_parts_of_its_method() {
            head.fault = Some(Http2HeadError::Malformed);
        }
        head
    }

    /// Returns true if this is CONNECT without `:protocol`, which names no target but an authority.
    pub(crate) fn is_plain_connect(&self) -> bool {
        self.method == b"CONNECT" && self.protocol.is_none()
    }

    /// RFC 9113 §8.3.1 and §8.5, RFC 8441 §4.
    fn has_the_parts_of_its_method(&self) -> bool {
        if self.is_plain_connect() {
            return self.scheme.is_none() && self.path.is_none() && self.authority.is_some();
        }
        let has_target = self.scheme.is_some() && self.path.is_some_and(|path| !path.is_empty());
        has_target && (self.protocol.is_none() || self.method == b"CONNECT")
    }
}

/// Checks a trailer section.
pub(crate) fn check_trailers(lines: &FieldLines) -> Result<(), TrailersError> {
    if lines.is_truncated {
        return Err(TrailersError::TooLarge);
    }
    // A colon is not part of a token, so this covers pseudo-header fields.
    let mut fields = lines.iter();
    if fields.all(|(name, value)| is_field(name, value) && !is_reserved(name, value)) {
        Ok(())
    } else {
        Err(TrailersError::Malformed)
    }
}

/// Returns true for a field line that HTTP/1.1 could carry. A value that begins or ends with white space could not be
/// forwarded as it is, RFC 9113 §8.2.1.
fn is_field(name: &[u8], value: &[u8]) -> bool {
    let is_padded = matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    is_token(name) && is_value(value) && !is_padded
}

/// Returns true for what only HTTP/2 forbids: upper case, RFC 9113 §8.2.1, and fields about the connection, §8.2.2.
fn is_reserved(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            true
        }
        b"te" => value != b"trailers",
        name => name.iter().any(u8::is_ascii_uppercase),
    }
}

/// Returns true if a path has neither white space nor control octets, as over HTTP/1.1.
fn is_line_part(path: &[u8]) -> bool {
    path.iter().all(|octet| *octet > b' ' && *octet != 0x7f)
}

/// Returns true for a scheme, RFC 3986 §3.1.
fn is_scheme(scheme: &[u8]) -> bool {
    matches!(scheme, [first, rest @ ..] if first.is_ascii_alphabetic()
        && rest.iter().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(octet)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::hpack::Decoder;

    /// Encodes fields as literals, and reads them.
    fn lines(fields: &[(&str, &str)]) -> FieldLines {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("a short text"));
                block.extend_from_slice(text.as_bytes());
            }
        }
        Decoder::new().decode(&block, 10_000).expect("a block")
    }

    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", "/"),
    ];

    #[test]
    fn a_head_is_read_in_order() {
        let sent = [
            &GET[..],
            &[("b", "1"), ("host", "h"), ("a", "2"), ("b", "")],
        ]
        .concat();
        let lines = lines(&sent);
        let head = Http2Head::read(&lines);
        assert_eq!(head.fault, None);
        assert_eq!((head.method, head.path), (&b"GET"[..], Some(&b"/"[..])));
        assert_eq!(head.hosts, [b"h"]);
        let want: [Header<'_>; 3] = [(b"b", b"1"), (b"a", b"2"), (b"b", b"")];
        assert_eq!(head.fields, want);
    }

    #[test]
    fn faults() {
        use Http2HeadError::{Head, Malformed, Method, Scheme};
        let field = Some(Head(HeadError::Field));
        let connect = [(":method", "CONNECT"), (":authority", "a:1")];
        let extended = [&[(":method", "CONNECT"), (":protocol", "x")], &GET[1..]].concat();
        for (sent, want) in [
            (vec![], None),
            (vec![("x", "\u{e9}")], None),
            (vec![("te", "trailers")], None),
            (vec![("x\"y", "z")], field),
            (vec![("x y", "z")], field),
            (vec![("", "z")], field),
            (vec![("x", " z")], field),
            (vec![("x", "z\t")], field),
            (vec![("x", "a\0b")], field),
            (vec![("host", "a\rb")], field),
            (vec![("X", "z")], Some(Malformed)),
            (vec![("connection", "x")], Some(Malformed)),
            (vec![("transfer-encoding", "chunked")], Some(Malformed)),
            (vec![("te", "gzip")], Some(Malformed)),
            (vec![(":path", "/")], Some(Malformed)),
            (vec![(":status", "200")], Some(Malformed)),
            (vec![(":x", "")], Some(Malformed)),
            (vec![(":", "")], Some(Malformed)),
            (vec![(":protocol", "websocket")], Some(Malformed)),
        ] {
            let lines = lines(&[&GET[..], &sent].concat());
            assert_eq!(Http2Head::read(&lines).fault, want, "{sent:?}");
        }
        for (sent, want) in [
            (connect.to_vec(), None),
            (extended.clone(), None),
            (vec![], Some(Malformed)),
            (GET[1..].to_vec(), Some(Malformed)),
            (GET[..3].to_vec(), Some(Malformed)),
            ([&GET[..1], &GET[2..]].concat(), Some(Malformed)),
            ([&GET[..3], &[(":path", "")]].concat(), Some(Malformed)),
            (connect[..1].to_vec(), Some(Malformed)),
            ([&connect, &GET[3..]].concat(), Some(Malformed)),
            (extended[..4].to_vec(), Some(Malformed)),
            ([&[("a", "b")], &GET[..]].concat(), Some(Malformed)),
            ([&[("a\"", "b")], &GET[..]].concat(), Some(Malformed)),
            ([&[(":method", "G T")], &GET[1..]].concat(), Some(Method)),
            ([&[(":method", "")], &GET[1..]].concat(), Some(Method)),
        ] {
            let lines = lines(&sent);
            assert_eq!(Http2Head::read(&lines).fault, want, "{sent:?}");
        }
        for path in ["/a b", "/\t", "/\r\nx: y", "/\0", "/\u{7f}"] {
            let sent = [&GET[..3], &[(":path", path)]].concat();
            let lines = lines(&sent);
            let fault = Http2Head::read(&lines).fault;
            assert_eq!(fault, Some(Http2HeadError::Path), "{path:?}");
        }
        for scheme in ["", "ht~tp", "1http", "http:", " http"] {
            let sent = [&[(":scheme", scheme)], &GET[..1], &GET[2..]].concat();
            let lines = lines(&sent);
            assert_eq!(Http2Head::read(&lines).fault, Some(Scheme), "{scheme:?}");
        }
    }
}
