//! Sends HTTP/2 frames unchanged, including those that no library would send: RFC 9113, and RFC 7541 without compression.

use std::io::{Read, Write};

use super::runner::expect_closed;

/// A field as bytes.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// Sends one request on a new connection. With trailers, a body of one byte goes before them.
pub(crate) fn send(stream: &mut impl Write, head: &[Field], trailers: &[Field]) {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, NO_TABLE_NO_PUSH));
    bytes.extend(field_block(head, trailers.is_empty()));
    if !trailers.is_empty() {
        bytes.extend(frame(DATA, 0, STREAM, b"a"));
        bytes.extend(field_block(trailers, true));
    }
    // A listener that rejects the request early does not read it to its end.
    let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
}

/// Reads the status of the response; `None` if the stream was reset or the connection closed instead.
pub(crate) fn status(stream: &mut (impl Read + Write)) -> Option<u16> {
    loop {
        let (kind, flags, payload) = read_frame(stream)?;
        match kind {
            HEADERS => return Some(read_status(&payload)),
            RST_STREAM | GOAWAY => return None,
            SETTINGS if flags & ACK == 0 => {
                let _ = stream.write_all(&frame(SETTINGS, ACK, 0, b""));
            }
            _ => {}
        }
    }
}

/// Builds a HEADERS frame, and as many CONTINUATION frames as the fields need.
fn field_block(fields: &[Field], ends_stream: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(LITERAL_NEVER_INDEXED);
        for text in [name, value] {
            string_length(&mut block, text.len());
            block.extend(text);
        }
    }
    let chunks: Vec<&[u8]> = block.chunks(LARGEST_FRAME).collect();
    let mut bytes = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let kind = if index == 0 { HEADERS } else { CONTINUATION };
        let mut flags = 0;
        if index == 0 && ends_stream {
            flags |= END_STREAM;
        }
        if index + 1 == chunks.len() {
            flags |= END_HEADERS;
        }
        bytes.extend(frame(kind, flags, STREAM, chunk));
    }
    bytes
}

/// Writes the length of a string, an integer with a prefix of seven bits (RFC 7541 §5.1). The eighth bit, 0, means that the
/// string is not Huffman-coded.
fn string_length(block: &mut Vec<u8>, length: usize) {
    const PREFIX: usize = 0x7f;
    if length < PREFIX {
        block.push(length as u8);
        return;
    }
    block.push(PREFIX as u8);
    let mut rest = length - PREFIX;
    while rest >= 0x80 {
        block.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    block.push(rest as u8);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame of less than 4 GiB");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Reads the kind, flags and payload of the next frame; `None` at the end of the connection.
fn read_frame(stream: &mut impl Read) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    if let Err(error) = stream.read_exact(&mut head) {
        expect_closed(&error);
        return None;
    }
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).expect("a length")];
    if let Err(error) = stream.read_exact(&mut payload) {
        expect_closed(&error);
        return None;
    }
    Some((head[3], head[4], payload))
}

/// Reads the status, which is the first field of a response: an index of the static table, or digits.
fn read_status(block: &[u8]) -> u16 {
    let start = block
        .iter()
        .position(|octet| octet & 0xe0 != TABLE_SIZE_UPDATE)
        .expect("a field");
    match &block[start..] {
        [indexed, ..] if indexed & 0x80 != 0 => match indexed & 0x7f {
            index @ 8..=14 => [200, 204, 206, 304, 400, 404, 500][usize::from(index) - 8],
            index => panic!("the response begins with field {index} of the static table"),
        },
        [_name, length, digits @ ..] => {
            let digits = &digits[..usize::from(length & 0x7f)];
            let text = if length & 0x80 == 0 {
                String::from_utf8_lossy(digits).into_owned()
            } else {
                huffman_digits(digits)
            };
            text.parse()
                .unwrap_or_else(|_| panic!("the status {text:?}"))
        }
        _ => panic!("the response {block:?}"),
    }
}

/// Reads three digits (RFC 7541 appendix B): 0 to 2 have codes of five bits, 3 to 9 of six.
fn huffman_digits(bytes: &[u8]) -> String {
    let mut bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1));
    let mut next = |count: usize| {
        bits.by_ref()
            .take(count)
            .fold(0, |code, bit| code * 2 + bit)
    };
    (0..3)
        .map(|_| match next(5) {
            code @ 0..=2 => char::from(b'0' + code),
            code => char::from(b'3' + (code * 2 + next(1)).saturating_sub(0b01_1001)),
        })
        .collect()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// SETTINGS_HEADER_TABLE_SIZE and SETTINGS_ENABLE_PUSH, both 0.
const NO_TABLE_NO_PUSH: &[u8] = &[0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The first stream that a client may open.
const STREAM: u32 = 1;
/// The largest frame that every peer accepts (RFC 9113 §4.2).
const LARGEST_FRAME: usize = 16_384;
const LITERAL_NEVER_INDEXED: u8 = 0x10;
const TABLE_SIZE_UPDATE: u8 = 0x20;
