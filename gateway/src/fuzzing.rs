//! What must hold for any bytes from outside?
//!
//! Here for the fuzz targets, since what reads those bytes is nobody else's to use. The first byte says into how large
//! pieces the others are cut: how a connection happens to deliver them must change nothing.

use crate::http::chunked::{ChunkError, Decoder};
use crate::http::framing::{Length, Transport};
use crate::http::head::{End, HeadError, RequestHead, ResponseHead, Version, all, read_trailers};
use crate::http::websocket::Frames;

/// A head of a request: found at the same place however it comes, read as what it would be written as, and with a body
/// whose length is beyond doubt.
pub fn request(bytes: &[u8]) {
    let Some((head, is_refused)) = find(bytes) else {
        return;
    };
    let Ok(read) = RequestHead::read(head, MOST_FIELDS) else {
        return;
    };
    assert!(!is_refused);
    assert!(read.hosts + read.fields.len() <= MOST_FIELDS);
    assert_eq!(read.hosts > 0, read.host.is_some());
    let version: &[u8] = match read.version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    };
    let mut written = [read.method, b" ", read.target, b" ", version, b"\r\n"].concat();
    for _ in 0..read.hosts {
        put(&mut written, b"host", read.host.unwrap_or_default());
    }
    for (name, value) in &read.fields {
        put(&mut written, name, value);
    }
    written.extend_from_slice(b"\r\n");
    assert_eq!(End::default().find(&written), Ok(Some(written.len())));
    assert_eq!(RequestHead::read(&written, MOST_FIELDS).as_ref(), Ok(&read));

    let lengths: Vec<&[u8]> = all(&read.fields, b"content-length").collect();
    let codings = all(&read.fields, b"transfer-encoding").count();
    match Transport::of(&read.fields).request_length(read.version) {
        Ok(Length::Exact(length)) => {
            let [digits] = lengths[..] else {
                panic!("{lengths:?} is read as one length");
            };
            let digits = std::str::from_utf8(digits).ok();
            assert_eq!(digits.and_then(|digits| digits.parse().ok()), Some(length));
            assert_eq!(codings, 0);
        }
        Ok(Length::Chunked) => {
            assert_eq!(
                (lengths.len(), codings, read.version),
                (0, 1, Version::Http11)
            );
        }
        Ok(Length::Empty) => assert_eq!(codings, 0),
        Ok(Length::UntilEnd) => panic!("a request does not end with its connection"),
        Err(_) => assert!(lengths.len() + codings > 0),
    }
}

/// A head of a response: found and read in the same way.
pub fn response(bytes: &[u8]) {
    let Some((head, is_refused)) = find(bytes) else {
        return;
    };
    let Ok(read) = ResponseHead::read(head) else {
        return;
    };
    assert!(!is_refused);
    assert!((100..1000).contains(&read.status));
    let status = read.status.to_string();
    let version: &[u8] = match read.version {
        Version::Http10 => b"HTTP/1.0 ",
        Version::Http11 => b"HTTP/1.1 ",
    };
    let mut written = [version, status.as_bytes(), b" ", read.reason, b"\r\n"].concat();
    for (name, value) in &read.fields {
        put(&mut written, name, value);
    }
    written.extend_from_slice(b"\r\n");
    assert_eq!(ResponseHead::read(&written).as_ref(), Ok(&read));
    let transport = Transport::of(&read.fields);
    for to_head in [false, true] {
        let length = transport.response_length(read.version, read.status, to_head);
        let has_none = to_head || matches!(read.status, 100..=199 | 204 | 304);
        assert!(!has_none || !matches!(length, Ok(length) if length != Length::Empty));
    }
}

/// A chunked body: the same data, trailers and end in one piece and in many.
pub fn chunked(bytes: &[u8]) {
    let (size, bytes) = cut(bytes);
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(decode(bytes, size), whole);
    if let Ok((data, trailers, read, is_done)) = whole {
        assert!(data.len() <= bytes.len() && read <= bytes.len() && trailers.len() <= ALLOWANCE);
        assert!(!is_done || read_trailers(&trailers).is_ok());
    }
}

/// Frames of a WebSocket: their ends are where a reader of whole frames finds them.
pub fn frames(bytes: &[u8]) {
    let (size, bytes) = cut(bytes);
    let mut frames = Frames::default();
    let mut passed = 0;
    let mut ends = whole_frames(bytes);
    ends.insert(0, 0);
    assert!(frames.is_between());
    for piece in bytes.chunks(size) {
        frames.pass(piece);
        passed += piece.len();
        assert_eq!(
            frames.is_between(),
            ends.contains(&passed),
            "after {passed}"
        );
    }
}

/// Cuts the first byte off, which says how large the pieces are.
fn cut(bytes: &[u8]) -> (usize, &[u8]) {
    match bytes {
        [size, bytes @ ..] => (1 + usize::from(*size), bytes),
        [] => (1, bytes),
    }
}

/// The head at the front, if there is one, and whether it is refused before its end when it comes in pieces.
fn find(bytes: &[u8]) -> Option<(&[u8], bool)> {
    let (size, bytes) = cut(bytes);
    let whole = End::default().find(bytes);
    let mut end = End::default();
    let mut found: Result<Option<usize>, HeadError> = Ok(None);
    let mut known = 0;
    while found == Ok(None) && known < bytes.len() {
        known = bytes.len().min(known + size);
        found = end.find(bytes.get(..known).unwrap_or_default());
    }
    // A line with a wrong end is refused as soon as it is there alone, or when the head is read.
    let is_refused = found == Err(HeadError::BareLineFeed);
    assert!(found == whole || is_refused);
    Some((bytes.get(..whole.ok()??)?, is_refused))
}

fn put(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// Data, trailers, how many bytes were read, and whether that is all of the body.
type Body = (Vec<u8>, Vec<u8>, usize, bool);

fn decode(bytes: &[u8], size: usize) -> Result<Body, ChunkError> {
    let mut decoder = Decoder::new(ALLOWANCE);
    let (mut data, mut read) = (Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece)?;
        data.extend_from_slice(piece.get(..decoded.data).unwrap_or_default());
        read += decoded.read;
        if decoder.is_done() {
            break;
        }
    }
    Ok((data, decoder.trailers().to_vec(), read, decoder.is_done()))
}

/// Where frames end, as RFC 6455 §5.2 draws them.
fn whole_frames(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut rest = bytes;
    while let [_, second, after @ ..] = rest {
        let length = second & 0x7f;
        let (length, after) = match (length, after) {
            (126, [a, b, after @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), after),
            (127, [a, b, c, d, e, f, g, h, after @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), after)
            }
            (126 | 127, _) => break,
            (length, after) => (u64::from(length), after),
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let length = usize::try_from(length.saturating_add(mask)).unwrap_or(usize::MAX);
        let Some(next) = after.get(length..) else {
            break;
        };
        rest = next;
        ends.push(bytes.len() - rest.len());
    }
    ends
}

const MOST_FIELDS: usize = 16;
const ALLOWANCE: usize = 64;
