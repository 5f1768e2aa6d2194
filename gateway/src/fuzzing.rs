//! Checks properties of the parsers for any input, for the fuzz targets.
//!
//! It is here because the parsers are private. The first byte of an input is the size of the pieces that the others are cut
//! into, because how a connection delivers bytes must not change the result.

use std::task::{Context, Poll, Waker};

use crate::http::chunked::{ChunkError, Decoder};
use crate::http::framing::{Framing, Length};
use crate::http::head::{
    HeadError, HeadScanner, RequestHead, ResponseHead, Version, all, read_trailers,
};
use crate::http::hpack::{self, FieldLines};
use crate::http::http2_connection::{Connection, Received, Request};
use crate::http::http2_frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_HEAD, FrameHead, HEADERS, MAX_FRAME,
    PREFACE, RST_STREAM,
};
use crate::http::http2_head::Http2Head;
use crate::http::websocket::Frames;

/// Checks the head of a request: it ends at the same place however it arrives, parsing and writing it round-trips, and the
/// length of its body is clear.
pub fn request(bytes: &[u8]) {
    let Some((head, is_rejected)) = find(bytes) else {
        return;
    };
    let Ok(read) = RequestHead::read(head, MAX_FIELDS) else {
        return;
    };
    assert!(!is_rejected);
    assert!(read.hosts + read.fields.len() <= MAX_FIELDS);
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
    assert_eq!(
        HeadScanner::default().find_end(&written),
        Ok(Some(written.len()))
    );
    assert_eq!(RequestHead::read(&written, MAX_FIELDS).as_ref(), Ok(&read));

    let lengths: Vec<&[u8]> = all(&read.fields, b"content-length").collect();
    let codings = all(&read.fields, b"transfer-encoding").count();
    match Framing::of(&read.fields).request_length(read.version) {
        Ok(Length::Exact(length)) => {
            let [digits] = lengths[..] else {
                panic!("{lengths:?} is parsed as one length");
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
        Ok(Length::Empty) => assert_eq!((lengths.len(), codings), (0, 0)),
        Ok(Length::UntilEnd) => panic!("a request does not end with its connection"),
        Err(_) => assert!(lengths.len() + codings > 0),
    }
}

/// Checks the head of a response in the same way.
pub fn response(bytes: &[u8]) {
    let Some((head, is_rejected)) = find(bytes) else {
        return;
    };
    let Ok(read) = ResponseHead::read(head) else {
        return;
    };
    assert!(!is_rejected);
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
    let framing = Framing::of(&read.fields);
    for is_head in [false, true] {
        let length = framing.response_length(read.version, read.status, is_head);
        let has_none = is_head || matches!(read.status, 100..=199 | 204 | 304);
        assert!(!has_none || !matches!(length, Ok(length) if length != Length::Empty));
    }
}

/// Checks a chunked body: data, trailers and end are the same in one piece and in many.
pub fn chunked(bytes: &[u8]) {
    let (size, bytes) = cut(bytes);
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(decode(bytes, size), whole);
    if let Ok((data, trailers, read, is_done)) = whole {
        assert!(data.len() <= bytes.len() && read <= bytes.len() && trailers.len() <= ALLOWANCE);
        assert!(!is_done || read_trailers(&trailers).is_ok());
    }
}

/// Checks WebSocket frames: boundaries are where a parser of whole frames finds them.
pub fn frames(bytes: &[u8]) {
    let (size, bytes) = cut(bytes);
    let mut frames = Frames::default();
    let mut passed = 0;
    let mut ends = whole_frames(bytes);
    ends.insert(0, 0);
    assert!(frames.is_at_boundary());
    for piece in bytes.chunks(size) {
        frames.pass(piece);
        passed += piece.len();
        assert_eq!(
            frames.is_at_boundary(),
            ends.contains(&passed),
            "after {passed}"
        );
    }
}

/// Takes off the first byte and returns the size of the pieces.
fn cut(bytes: &[u8]) -> (usize, &[u8]) {
    match bytes {
        [size, bytes @ ..] => (1 + usize::from(*size), bytes),
        [] => (1, bytes),
    }
}

/// Checks an HTTP/2 connection whose client sends these frames after its preface. The requests do not depend on how the frames
/// arrive, and what the server sends is well-formed and bounded, whether the client reads it or not.
pub fn http2(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let size = usize::from(*first).max(1);
    let sent = [PREFACE, bytes].concat();
    let requests = http2_requests(&sent, size);
    assert_eq!(http2_requests(&sent, 16_384), requests);
    for request in &requests.0 {
        assert!(request.lines.size() <= MAX_BLOCK * 4);
        let head = Http2Head::read(&request.lines);
        assert!(head.fault.is_some() || !head.method.is_empty());
    }
    for reads in [true, false] {
        serve_http2(&sent, size, reads);
    }
}

/// Returns the requests of a client, and whether the connection fails.
fn http2_requests(sent: &[u8], size: usize) -> (Vec<Request>, bool) {
    let mut connection = Connection::new(MAX_BLOCK);
    let (mut unread, mut requests) = (Vec::new(), Vec::new());
    for piece in sent.chunks(size) {
        unread.extend_from_slice(piece);
        loop {
            let count = connection.receive(&unread);
            unread.drain(..count);
            // An error drops the requests before it, however they have arrived.
            requests.extend(std::iter::from_fn(|| connection.next_request()));
            connection.written(connection.output().len());
            if count == 0 {
                break;
            }
        }
    }
    let has_failed = connection.error().is_some();
    if has_failed {
        requests.clear();
    }
    (requests, has_failed)
}

/// Responds to the requests of a client, as far as it lets the server. `reads`: whether it reads what is sent.
fn serve_http2(sent: &[u8], size: usize, reads: bool) {
    let context = Context::from_waker(Waker::noop());
    let mut connection = Connection::new(MAX_BLOCK);
    let (mut unread, mut open, mut output) = (Vec::new(), Vec::new(), Vec::new());
    for piece in sent.chunks(size) {
        unread.extend_from_slice(piece);
        let count = connection.receive(&unread);
        unread.drain(..count);
        while let Some(request) = connection.next_request() {
            open.push((request.stream, RESPONSE.len()));
        }
        open.retain_mut(|(id, left)| {
            let is_open = respond_http2(&mut connection, *id, left, &context);
            if !is_open {
                connection.close(*id);
            }
            is_open
        });
        assert!(connection.output().len() <= MAX_OUTPUT);
        if reads {
            output.extend_from_slice(connection.output());
            connection.written(connection.output().len());
        }
    }
    check_http2_output(&output);
}

/// Continues a response of which `left` bytes are missing. Returns false if it has ended.
fn respond_http2(
    connection: &mut Connection,
    id: u32,
    left: &mut usize,
    context: &Context<'_>,
) -> bool {
    loop {
        match connection.poll_received(id, context) {
            Poll::Ready(Ok(Received::Data(_))) => {}
            Poll::Ready(Ok(Received::End(_))) => break,
            Poll::Ready(Err(_)) => return false,
            Poll::Pending => return true,
        }
    }
    if *left == RESPONSE.len() {
        match connection.poll_room(id, context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return false,
            Poll::Pending => return true,
        }
        let mut fields = FieldLines::default();
        fields.push(b"X-Stream", id.to_string().as_bytes());
        fields.push(b"Cache-Control", b"no-store");
        if connection.send_head(id, 200, &fields, false).is_err() {
            return false;
        }
    }
    while *left > 0 {
        let rest = RESPONSE.get(..*left).unwrap_or_default();
        match connection.poll_send(id, rest, context) {
            Poll::Ready(Ok(count)) => *left -= count,
            Poll::Ready(Err(_)) => return false,
            Poll::Pending => return true,
        }
    }
    let _ = connection.send_end(id, None);
    false
}

/// Checks what a server has sent.
fn check_http2_output(output: &[u8]) {
    let mut decoder = hpack::Decoder::new();
    let (mut rest, mut block, mut ended) = (output, None::<Vec<u8>>, Vec::new());
    while let Some(head) = FrameHead::read(rest) {
        assert!(head.length <= MAX_FRAME);
        let (frame, after) = rest.split_at(FRAME_HEAD + head.length);
        let payload = frame.get(FRAME_HEAD..).unwrap_or_default();
        rest = after;
        assert_eq!(block.is_some(), head.kind == CONTINUATION);
        if matches!(head.kind, HEADERS | CONTINUATION) {
            let block = block.get_or_insert_default();
            block.extend_from_slice(payload);
        }
        if matches!(head.kind, HEADERS | DATA | RST_STREAM) {
            let is_last = head.kind == RST_STREAM || head.has(END_STREAM);
            assert!(head.kind == RST_STREAM || !ended.contains(&head.stream));
            ended.extend(is_last.then_some(head.stream));
        }
        if head.has(END_HEADERS)
            && let Some(block) = block.take()
        {
            let lines = decoder.decode(&block, MAX_BLOCK);
            assert_eq!(lines.map(|lines| lines.len()), Ok(3));
        }
    }
    assert!(rest.is_empty());
}

/// Returns the head at the front, if there is one, and true if it is rejected before its end when it arrives in pieces.
fn find(bytes: &[u8]) -> Option<(&[u8], bool)> {
    let (size, bytes) = cut(bytes);
    let whole = HeadScanner::default().find_end(bytes);
    let mut scanner = HeadScanner::default();
    let mut found: Result<Option<usize>, HeadError> = Ok(None);
    let mut known = 0;
    while found == Ok(None) && known < bytes.len() {
        known = bytes.len().min(known + size);
        found = scanner.find_end(bytes.get(..known).unwrap_or_default());
    }
    // A line without a carriage return is rejected as soon as it arrives, or when the head is parsed.
    let is_rejected = found == Err(HeadError::BareLineFeed);
    assert!(found == whole || is_rejected);
    Some((bytes.get(..whole.ok()??)?, is_rejected))
}

fn put(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// Data, trailers, the number of bytes read, and true if the body has ended.
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

/// Returns where frames end by RFC 6455 §5.2.
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

/// Limit of a header block.
const MAX_BLOCK: usize = 1024;

/// The content of a response, and how many bytes may wait to be sent: those of streams, a head, and control frames.
const RESPONSE: &[u8] = &[b'x'; 40_000];
const MAX_OUTPUT: usize = 128 * 1024;

const MAX_FIELDS: usize = 16;
const ALLOWANCE: usize = 64;
