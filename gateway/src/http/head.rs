//! Finds the end of a message head and parses it, RFC 9112 §2 to §5, without the leniency that the RFC allows.
//!
//! Nothing is copied: names, values and target are slices of the bytes that were received.

use std::sync::LazyLock;

use fluxlit_policy::Header;
use memchr::{memchr, memchr_iter, memmem};

/// The head of a request, RFC 9112 §3.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) version: Version,
    /// The first `Host`.
    pub(crate) host: Option<&'a [u8]>,
    /// Number of `Host` lines.
    pub(crate) hosts: usize,
    /// The field lines in order, without `Host`.
    pub(crate) fields: Vec<Header<'a>>,
}

/// The head of a response, RFC 9112 §4.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead<'a> {
    pub(crate) version: Version,
    pub(crate) status: u16,
    pub(crate) reason: &'a [u8],
    pub(crate) fields: Vec<Header<'a>>,
}

/// A version of HTTP/1. A later minor version is treated as 1.1, RFC 9110 §2.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

/// The error when a head is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("a line ends without a carriage return")]
    BareLineFeed,
    #[error("a field line is malformed")]
    Field,
    #[error("a field line is folded")]
    Folded,
    #[error("the first line is malformed")]
    StartLine,
    #[error("the head is too large")]
    TooLarge,
    #[error("there are too many field lines")]
    TooManyFields,
    #[error("the version is not HTTP/1.0 or HTTP/1.1")]
    Version,
}

/// Finds the end of a head as its bytes arrive.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    /// The head does not end before this offset, and all lines before it end with CRLF.
    searched: usize,
}

impl HeadScanner {
    /// Returns the length of the head at the front of `bytes`, including the empty line; `None` while it is incomplete.
    /// `bytes` must begin with those of the previous call.
    pub(crate) fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        let from = self.searched.saturating_sub(EMPTY_LINE.len() - 1);
        let rest = bytes.get(from..).unwrap_or_default();
        if let Some(index) = FINDER.find(rest) {
            return Ok(Some(from + index + EMPTY_LINE.len()));
        }
        // Detect a bare LF now; otherwise we would wait for CRLF until the header timeout.
        let new = bytes.get(self.searched..).unwrap_or_default();
        for index in memchr_iter(b'\n', new) {
            let before = (self.searched + index).checked_sub(1);
            if before.and_then(|before| bytes.get(before)) != Some(&b'\r') {
                return Err(HeadError::BareLineFeed);
            }
        }
        self.searched = bytes.len();
        Ok(None)
    }
}

impl<'a> RequestHead<'a> {
    /// Parses a complete head, as [`HeadScanner`] has found it.
    pub(crate) fn read(bytes: &'a [u8], max_fields: usize) -> Result<Self, HeadError> {
        let mut lines = Lines(bytes);
        let line = lines.next().ok_or(HeadError::StartLine)??;
        let mut parts = line.splitn(3, |octet| *octet == b' ');
        let (Some(method), Some(target), Some(version)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(HeadError::StartLine);
        };
        // No form of target has control octets. The policy decides what else is rejected.
        let has_controls = target.contains(&b'\t') || !is_value(target);
        if !is_token(method) || target.is_empty() || has_controls {
            return Err(HeadError::StartLine);
        }
        let version = Version::read(version)?;
        let mut head = Self {
            method,
            target,
            version,
            host: None,
            hosts: 0,
            fields: Vec::with_capacity(TYPICAL_FIELDS),
        };
        for line in lines {
            let field = read_field(line?)?;
            if field.0.len() == 4 && field.0.eq_ignore_ascii_case(b"host") {
                head.host.get_or_insert(field.1);
                head.hosts += 1;
            } else {
                head.fields.push(field);
            }
            if head.fields.len() + head.hosts > max_fields {
                return Err(HeadError::TooManyFields);
            }
        }
        Ok(head)
    }
}

impl<'a> ResponseHead<'a> {
    /// Parses a complete head, as [`HeadScanner`] has found it.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, HeadError> {
        let mut lines = Lines(bytes);
        let line = lines.next().ok_or(HeadError::StartLine)??;
        let mut parts = line.splitn(3, |octet| *octet == b' ');
        let (Some(version), Some(status)) = (parts.next(), parts.next()) else {
            return Err(HeadError::StartLine);
        };
        let version = Version::read(version)?;
        let status = match status {
            [
                hundreds @ b'1'..=b'9',
                tens @ b'0'..=b'9',
                ones @ b'0'..=b'9',
            ] => [hundreds, tens, ones]
                .into_iter()
                .fold(0, |status, digit| status * 10 + u16::from(digit - b'0')),
            _ => return Err(HeadError::StartLine),
        };
        let reason = parts.next().unwrap_or_default();
        if !is_value(reason) {
            return Err(HeadError::StartLine);
        }
        Ok(Self {
            version,
            status,
            reason,
            fields: read_fields(lines, usize::MAX)?,
        })
    }
}

impl Version {
    fn read(text: &[u8]) -> Result<Self, HeadError> {
        // RFC 9112 §2.3: one digit on each side of the dot.
        let [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            major @ b'0'..=b'9',
            b'.',
            minor @ b'0'..=b'9',
        ] = text
        else {
            return Err(HeadError::StartLine);
        };
        match (major, minor) {
            (b'1', b'0') => Ok(Self::Http10),
            (b'1', _) => Ok(Self::Http11),
            _ => Err(HeadError::Version),
        }
    }
}

/// Parses a trailer section, RFC 9112 §7.1.2: field lines and the empty line.
pub(crate) fn read_trailers(bytes: &[u8]) -> Result<Vec<Header<'_>>, HeadError> {
    read_fields(Lines(bytes), usize::MAX)
}

/// Returns the value of the field line with this name, if there is exactly one.
pub(crate) fn only<'a>(fields: &[Header<'a>], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = all(fields, name);
    match (lines.next(), lines.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// Returns the values of all field lines with this name.
pub(crate) fn all<'a>(fields: &[Header<'a>], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| *value)
}

/// Returns the elements of a field that is a comma-separated list, RFC 9110 §5.6.1, over all its lines.
pub(crate) fn elements<'a>(fields: &[Header<'a>], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    all(fields, name)
        .flat_map(|value| value.split(|octet| *octet == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

fn read_fields<'a>(lines: Lines<'a>, max: usize) -> Result<Vec<Header<'a>>, HeadError> {
    let mut fields = Vec::with_capacity(TYPICAL_FIELDS);
    for line in lines {
        if fields.len() == max {
            return Err(HeadError::TooManyFields);
        }
        fields.push(read_field(line?)?);
    }
    Ok(fields)
}

/// Parses a field line, RFC 9112 §5.
fn read_field(line: &[u8]) -> Result<Header<'_>, HeadError> {
    let colon = line
        .iter()
        .position(|octet| !TOKEN[usize::from(*octet)])
        .ok_or(HeadError::Field)?;
    let (name, value) = line.split_at_checked(colon).ok_or(HeadError::Field)?;
    let [b':', value @ ..] = value else {
        let is_folded = name.is_empty() && matches!(value, [b' ' | b'\t', ..]);
        return Err(if is_folded {
            HeadError::Folded
        } else {
            HeadError::Field
        });
    };
    let value = trim(value);
    if !name.is_empty() && is_value(value) {
        Ok((name, value))
    } else {
        Err(HeadError::Field)
    }
}

/// Iterates over the lines of a head up to the empty one.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], HeadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr(b'\n', self.0)?;
        let (line, rest) = self.0.split_at_checked(end + 1)?;
        self.0 = rest;
        match line {
            b"\r\n" => None,
            [line @ .., b'\r', _] => Some(Ok(line)),
            _ => Some(Err(HeadError::BareLineFeed)),
        }
    }
}

/// Removes white space at both ends, RFC 9110 §5.6.3.
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Returns true for a token, RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|octet| TOKEN[usize::from(*octet)])
}

/// Returns true for a field value, RFC 9110 §5.5: visible characters, white space and octets above ASCII.
pub(crate) fn is_value(text: &[u8]) -> bool {
    // No early return, so that the compiler can vectorize.
    !text.iter().fold(false, |is_bad, octet| {
        is_bad | (*octet < b' ') & (*octet != b'\t') | (*octet == 127)
    })
}

/// True for each octet that is allowed in a token.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 128 {
        table[octet as usize] = matches!(
            octet,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'
        );
        octet += 1;
    }
    table
};

/// The end of the last line and the empty line.
const EMPTY_LINE: &[u8] = b"\r\n\r\n";

/// Built once, because that costs more than a search.
static FINDER: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(EMPTY_LINE));

/// Somewhat more fields than a browser sends.
const TYPICAL_FIELDS: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_however_the_bytes_arrive() {
        let head = b"GET / HTTP/1.1\r\na: b\r\n\r\n";
        let more = [head.as_slice(), b"body\n"].concat();
        let mut scanner = HeadScanner::default();
        for length in 0..head.len() {
            assert_eq!(scanner.find_end(&more[..length]), Ok(None), "{length}");
        }
        assert_eq!(scanner.find_end(&more), Ok(Some(head.len())));
        assert_eq!(HeadScanner::default().find_end(&more), Ok(Some(head.len())));
        for bare in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\na: b\n\r\n", "\n"] {
            let found = HeadScanner::default().find_end(bare.as_bytes());
            assert_eq!(found, Err(HeadError::BareLineFeed), "{bare:?}");
            let whole = [bare, "\r\n\r\n"].concat();
            let read = RequestHead::read(whole.as_bytes(), 9);
            assert_eq!(read, Err(HeadError::BareLineFeed), "{whole:?}");
        }
    }

    #[test]
    fn requests() {
        let read = |text: &'static str| RequestHead::read(text.as_bytes(), 3);
        let head =
            read("get /a%2F?b#c HTTP/1.1\r\nHOST: a\r\nX-A:\t b c \r\nx-b:é\r\n\r\n").unwrap();
        assert_eq!((head.method, head.target), (&b"get"[..], &b"/a%2F?b#c"[..]));
        assert_eq!((head.host, head.hosts), (Some(&b"a"[..]), 1));
        let want: [Header<'_>; 2] = [(b"X-A", b"b c"), (b"x-b", "\u{e9}".as_bytes())];
        assert_eq!(head.fields, want);
        let head = read("GET / HTTP/1.1\r\nHost: a\r\nDate: b\r\nhost: c\r\n\r\n").unwrap();
        assert_eq!((head.host, head.hosts), (Some(&b"a"[..]), 2));
        assert_eq!(head.fields, [(&b"Date"[..], &b"b"[..])]);
        for (text, want) in [
            ("GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", HeadError::Folded),
            ("GET / HTTP/1.1\r\na : b\r\n\r\n", HeadError::Field),
            ("GET / HTTP/1.1\r\na\r\n\r\n", HeadError::Field),
            ("GET / HTTP/1.1\r\n: b\r\n\r\n", HeadError::Field),
            ("GET / HTTP/1.1\r\na: b\0\r\n\r\n", HeadError::Field),
            ("GET / HTTP/1.1\r\na: b\rc\r\n\r\n", HeadError::Field),
            ("GET  / HTTP/1.1\r\n\r\n", HeadError::StartLine),
            ("GET / / HTTP/1.1\r\n\r\n", HeadError::StartLine),
            ("GET /\r\n\r\n", HeadError::StartLine),
            ("G=T / HTTP/1.1\r\n\r\n", HeadError::StartLine),
            ("GET  HTTP/1.1\r\n\r\n", HeadError::StartLine),
            ("GET /\x01 HTTP/1.1\r\n\r\n", HeadError::StartLine),
            ("GET /\t HTTP/1.1\r\n\r\n", HeadError::StartLine),
            ("GET /\x7f HTTP/1.1\r\n\r\n", HeadError::StartLine),
            (
                "GET / HTTP/1.1\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n\r\n",
                HeadError::TooManyFields,
            ),
        ] {
            assert_eq!(read(text), Err(want), "{text:?}");
        }
    }

    #[test]
    fn hosts_count_as_fields() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nx: y\r\nhost: b\r\n\r\n";
        let head = RequestHead::read(text, 3).unwrap();
        assert_eq!((head.host, head.hosts), (Some(&b"a"[..]), 2));
        assert_eq!(head.fields, [(&b"x"[..], &b"y"[..])]);
        assert_eq!(RequestHead::read(text, 2), Err(HeadError::TooManyFields));
        let response = b"HTTP/1.1 200 OK\r\nhost: a\r\n\r\n";
        assert_eq!(ResponseHead::read(response).unwrap().fields.len(), 1);
    }

    #[test]
    fn versions() {
        for (text, want) in [
            ("HTTP/1.0", Ok(Version::Http10)),
            ("HTTP/1.1", Ok(Version::Http11)),
            ("HTTP/1.2", Ok(Version::Http11)),
            ("HTTP/1.9", Ok(Version::Http11)),
            ("HTTP/0.9", Err(HeadError::Version)),
            ("HTTP/2.0", Err(HeadError::Version)),
            ("HTTP/3.1", Err(HeadError::Version)),
            ("HTTP/1", Err(HeadError::StartLine)),
            ("HTTP/1.", Err(HeadError::StartLine)),
            ("HTTP/ 1.1", Err(HeadError::StartLine)),
            ("HTTP/1.1 ", Err(HeadError::StartLine)),
            ("HTTP/1.10", Err(HeadError::StartLine)),
            ("HTTP/11.1", Err(HeadError::StartLine)),
            ("HTTP/1,1", Err(HeadError::StartLine)),
            ("HTTP/1.x", Err(HeadError::StartLine)),
            ("HTTP/:.1", Err(HeadError::StartLine)),
            ("http/1.1", Err(HeadError::StartLine)),
            ("", Err(HeadError::StartLine)),
        ] {
            assert_eq!(Version::read(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn tokens_and_values() {
        for octet in 0..=255 {
            let is_in_token =
                (33..127).contains(&octet) && !b"\"(),/:;<=>?@[\\]{}".contains(&octet);
            assert_eq!(is_token(&[octet]), is_in_token, "{octet}");
            let is_in_value = octet == b'\t' || octet >= 32 && octet != 127;
            assert_eq!(is_value(&[b'a', octet]), is_in_value, "{octet}");
        }
        assert!(!is_token(b""));
        assert!(is_value(b""));
        for bad in [b"\0\0", b"\0\x7f", b"\x7f\0", b"\x7f\x7f"] {
            assert!(!is_value(bad), "{bad:?}");
        }
        // Every octet at every place, between octets that are next to those that are not allowed.
        for (octet, place, around) in (0..=255_u8)
            .flat_map(|octet| (0..20).map(move |place| (octet, place)))
            .flat_map(|(octet, place)| {
                [b' ', b'~', b'\t', 0x80, 0xff].map(|other| (octet, place, other))
            })
        {
            let mut text = [around; 20];
            text[place] = octet;
            let is_in_value = octet == b'\t' || octet >= 32 && octet != 127;
            assert_eq!(
                is_value(&text),
                is_in_value,
                "{octet} at {place} among {around}"
            );
        }
        assert_eq!(trim(b"\t a b \t"), b"a b");
        assert_eq!(trim(b" \t"), b"");
    }

    #[test]
    fn trailers() {
        let fields: [Header<'_>; 2] = [(b"a", b"b"), (b"C", b"")];
        let read = read_trailers(b"a: b\r\nC:\r\n\r\n");
        assert_eq!(read.as_deref(), Ok(&fields[..]));
        assert_eq!(read_trailers(b"\r\n").as_deref(), Ok(&[][..]));
        assert_eq!(read_trailers(b"a\r\n\r\n"), Err(HeadError::Field));
        assert_eq!(read_trailers(b"a: b\r\n c\r\n\r\n"), Err(HeadError::Folded));
    }

    #[test]
    fn responses() {
        let read = |text: &'static str| ResponseHead::read(text.as_bytes());
        let head = read("HTTP/1.1 404 Not Found\r\na:b\r\n\r\n").unwrap();
        assert_eq!((head.status, head.reason), (404, &b"Not Found"[..]));
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.fields, [(&b"a"[..], &b"b"[..])]);
        assert_eq!(read("HTTP/1.0 200\r\n\r\n").unwrap().reason, b"");
        assert_eq!(read("HTTP/1.1 999 \r\n\r\n").unwrap().status, 999);
        for text in [
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 :00 OK\r\n\r\n",
            "HTTP/1.1 2/0 OK\r\n\r\n",
            "HTTP/1.1 20x OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 020 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lists() {
        let fields: [Header<'_>; 3] = [(b"A", b"x, ,y"), (b"b", b"n"), (b"a", b"\tz")];
        let found: Vec<&[u8]> = elements(&fields, b"a").collect();
        assert_eq!(found, [b"x", b"y", b"z"]);
        assert_eq!(only(&fields, b"a"), None);
        assert_eq!(only(&fields, b"b"), Some(&b"n"[..]));
    }
}
