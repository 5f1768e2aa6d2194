//! Writes requests and reads responses in frames of HTTP/2 ([RFC 9113](https://www.rfc-editor.org/rfc/rfc9113)).
//!
//! It supports only what the counted exchanges need. It sends the same octets every time, and acknowledges nothing between two
//! exchanges, which libraries do at times of their own.

use std::io::{Read, Write};

use anyhow::{Context, ensure};

/// A connection on which one request is sent after another.
pub(super) struct Connection<S> {
    stream: S,
    /// The number of the next stream.
    next: u32,
    fields: Vec<(String, String)>,
}

impl<S: Read + Write> Connection<S> {
    /// Opens a connection. `fields`: those of each request, with pseudo-header fields first.
    pub(super) fn open(mut stream: S, fields: Vec<(String, String)>) -> anyhow::Result<Self> {
        ensure!(
            fields.len() <= MAX_FIELDS,
            "the fields of a request do not fit into the dynamic table"
        );
        let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // SETTINGS_INITIAL_WINDOW_SIZE, RFC 9113 §6.5.2, and the window of the connection: never exhausted.
        let window = MAX_WINDOW.to_be_bytes();
        put_frame(
            &mut preface,
            SETTINGS,
            0,
            0,
            &[&[0, 4], &window[..]].concat(),
        );
        let more = (MAX_WINDOW - DEFAULT_WINDOW).to_be_bytes();
        put_frame(&mut preface, WINDOW_UPDATE, 0, 0, &more);
        stream.write_all(&preface)?;
        stream.flush()?;
        Ok(Self {
            stream,
            next: 1,
            fields,
        })
    }

    /// Sends a request without a body, and returns the length of the response's body.
    pub(super) fn exchange(&mut self) -> anyhow::Result<usize> {
        let number = self.next;
        self.next += 2;
        let mut request = Vec::new();
        let block = header_block(&self.fields, number == 1);
        put_frame(
            &mut request,
            HEADERS,
            END_HEADERS | END_STREAM,
            number,
            &block,
        );
        self.stream.write_all(&request)?;
        self.stream.flush()?;
        let mut length = 0;
        loop {
            let frame = self.read_frame()?;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => {
                    let mut acknowledgement = Vec::new();
                    put_frame(&mut acknowledgement, SETTINGS, ACK, 0, &[]);
                    self.stream.write_all(&acknowledgement)?;
                    self.stream.flush()?;
                }
                SETTINGS | WINDOW_UPDATE => {}
                HEADERS => ensure!(
                    frame.payload.contains(&STATUS_200),
                    "the response has another status than 200"
                ),
                DATA => length += frame.payload.len(),
                kind => anyhow::bail!("an unexpected frame of type {kind}"),
            }
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return Ok(length);
            }
        }
    }

    fn read_frame(&mut self) -> anyhow::Result<Frame> {
        let mut head = [0; 9];
        self.stream
            .read_exact(&mut head)
            .context("the connection ended before the response")?;
        let [high, middle, low, kind, flags, ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, high, middle, low]))?];
        self.stream.read_exact(&mut payload)?;
        Ok(Frame {
            kind,
            flags,
            payload,
        })
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

fn put_frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or_default();
    to.extend_from_slice(&length.to_be_bytes()[1..]);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

/// Writes fields in the format of HPACK, RFC 7541 §6. As browsers do, the first request adds them to the dynamic table, and
/// the others refer to it.
fn header_block(fields: &[(String, String)], is_first: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (index, (name, value)) in fields.iter().enumerate() {
        if is_first {
            block.push(ADDED_FIELD);
            for text in [name, value] {
                put_integer(&mut block, 0, 7, text.len());
                block.extend_from_slice(text.as_bytes());
            }
        } else {
            // The last one that was added has the lowest index.
            put_integer(
                &mut block,
                INDEXED_FIELD,
                7,
                STATIC_TABLE + fields.len() - index,
            );
        }
    }
    block
}

/// Writes an integer with a prefix of some bits, RFC 7541 §5.1.
fn put_integer(to: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let max = (1_usize << bits) - 1;
    let octet = |value: usize| u8::try_from(value & 0xff).unwrap_or_default();
    if value < max {
        to.push(first | octet(value));
        return;
    }
    to.push(first | octet(max));
    let mut rest = value - max;
    while rest >= 128 {
        to.push(octet(rest % 128) | 128);
        rest /= 128;
    }
    to.push(octet(rest));
}

/// Types of frames, RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

/// Flags of frames.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// RFC 9113 §6.9.1 and §6.9.2.
const MAX_WINDOW: u32 = (1 << 31) - 1;
const DEFAULT_WINDOW: u32 = 65_535;

/// First octets of fields, RFC 7541 §6.1 and §6.2.1, and the number of entries in the static table.
const INDEXED_FIELD: u8 = 0x80;
const ADDED_FIELD: u8 = 0x40;
const STATIC_TABLE: usize = 61;

/// `:status: 200`, the eighth entry of the static table.
const STATUS_200: u8 = 0x88;

/// The dynamic table has 4096 bytes, of which a field takes its length and 32.
const MAX_FIELDS: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7541 §C.1.
    #[test]
    fn integers_have_a_prefix() {
        for (bits, value, octets) in [
            (5, 10, &[10][..]),
            (5, 1337, &[31, 154, 10]),
            (8, 42, &[42]),
        ] {
            let mut written = Vec::new();
            put_integer(&mut written, 0, bits, value);
            assert_eq!(written, octets);
        }
    }

    #[test]
    fn fields_are_added_once_and_referred_to_afterwards() {
        let fields =
            [("a", "b"), ("c", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(header_block(&fields, true), b"\x40\x01a\x01b\x40\x01c\x00");
        assert_eq!(header_block(&fields, false), [0x80 | 63, 0x80 | 62]);
    }
}
