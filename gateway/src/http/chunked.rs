//! Decodes the chunked transfer coding, RFC 9112 §7.1.
//!
//! The decoder is strict, for requests and responses: a size is hexadecimal digits, white space after it is allowed only
//! before an extension, every line ends with CRLF, and trailers are field lines as in a head. Chunk extensions are for one
//! hop and are dropped. The data of several chunks is joined in place, so that what one read returned is forwarded in one
//! write.

use crate::http::head::read_trailers;

/// Decodes one chunked body.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// Remaining bytes for extensions and trailers.
    allowance: usize,
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a chunk's size, after this many digits.
    Size {
        size: u64,
        digits: u8,
    },
    /// In white space, which must be followed by an extension.
    BeforeExtension {
        size: u64,
    },
    Extension {
        size: u64,
    },
    /// After the carriage return of a chunk's first line.
    SizeEnd {
        size: u64,
    },
    Data {
        remaining: u64,
    },
    DataReturn,
    DataEnd,
    /// In a line of the trailer section.
    Trailer {
        is_empty: bool,
    },
    TrailerEnd {
        is_empty: bool,
    },
    Done,
}

/// The error when a chunked body is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("a chunk is malformed")]
    Malformed,
    #[error("chunk extensions or trailers are too long")]
    TooLong,
}

/// The result of decoding some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Bytes of data that are at the front now.
    pub(crate) data: usize,
    /// Bytes that were read. What follows belongs to the next message.
    pub(crate) read: usize,
}

impl Decoder {
    /// Creates a decoder. `allowance`: maximum bytes of extensions and trailers together.
    pub(crate) fn new(allowance: usize) -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            allowance,
            trailers: Vec::new(),
        }
    }

    /// Returns true if the body has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Returns the trailer section once the body has ended: field lines and the empty line.
    pub(crate) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Decodes the next bytes of a body, and moves the data to their front.
    pub(crate) fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, ChunkError> {
        let mut at = 0;
        let mut data = 0;
        while let Some(octet) = bytes.get(at).copied() {
            match self.state {
                State::Done => break,
                State::Data { remaining } => {
                    let here = bytes.len() - at;
                    let count =
                        usize::try_from(remaining).map_or(here, |remaining| remaining.min(here));
                    bytes.copy_within(at..at + count, data);
                    data += count;
                    at += count;
                    self.state = match remaining - count as u64 {
                        0 => State::DataReturn,
                        remaining => State::Data { remaining },
                    };
                    continue;
                }
                _ => self.state = self.step(octet)?,
            }
            at += 1;
        }
        Ok(Decoded { data, read: at })
    }

    fn step(&mut self, octet: u8) -> Result<State, ChunkError> {
        Ok(match (self.state, octet) {
            (State::Size { size, digits }, _) if octet.is_ascii_hexdigit() => {
                // Reject before the size overflows.
                if digits == MAX_DIGITS {
                    return Err(ChunkError::Malformed);
                }
                let digit = match octet {
                    b'0'..=b'9' => octet - b'0',
                    _ => (octet | 0x20) - b'a' + 10,
                };
                State::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(ChunkError::Malformed),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => {
                State::SizeEnd { size }
            }
            (State::Size { size, .. } | State::BeforeExtension { size }, b' ' | b'\t') => {
                self.spend()?;
                State::BeforeExtension { size }
            }
            (State::Size { size, .. } | State::BeforeExtension { size }, b';')
            | (State::Extension { size }, b'\t' | 32..=126 | 128..) => {
                self.spend()?;
                State::Extension { size }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailer { is_empty: true },
            (State::SizeEnd { size }, b'\n') => State::Data { remaining: size },
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Trailer { is_empty }, b'\r') => {
                self.keep(octet)?;
                State::TrailerEnd { is_empty }
            }
            (State::Trailer { .. }, _) if octet != b'\n' => {
                self.keep(octet)?;
                State::Trailer { is_empty: false }
            }
            (State::TrailerEnd { is_empty }, b'\n') => {
                self.keep(octet)?;
                if is_empty {
                    // An upstream might accept malformed trailers, so they must not be forwarded.
                    read_trailers(&self.trailers).map_err(|_| ChunkError::Malformed)?;
                    State::Done
                } else {
                    State::Trailer { is_empty: true }
                }
            }
            _ => return Err(ChunkError::Malformed),
        })
    }

    fn keep(&mut self, octet: u8) -> Result<(), ChunkError> {
        self.spend()?;
        self.trailers.push(octet);
        Ok(())
    }

    fn spend(&mut self) -> Result<(), ChunkError> {
        self.allowance = self.allowance.checked_sub(1).ok_or(ChunkError::TooLong)?;
        Ok(())
    }
}

/// Digits of the largest size, 2⁶⁰ − 1.
const MAX_DIGITS: u8 = 15;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `body` in pieces of `size` bytes; returns the data, the trailers and the number of unread bytes.
    fn decode(body: &[u8], size: usize) -> Result<(Vec<u8>, Vec<u8>, usize), ChunkError> {
        let mut decoder = Decoder::new(64);
        let mut data = Vec::new();
        let mut unread = body.len();
        for piece in body.chunks(size) {
            let mut piece = piece.to_vec();
            let decoded = decoder.decode(&mut piece)?;
            data.extend_from_slice(&piece[..decoded.data]);
            unread -= decoded.read;
            if decoder.is_done() {
                break;
            }
        }
        assert!(decoder.is_done(), "the body is incomplete");
        Ok((data, decoder.trailers().to_vec(), unread))
    }

    #[test]
    fn well_formed_bodies_are_decoded() {
        for (body, data, trailers, unread) in [
            ("0\r\n\r\n", "", "\r\n", 0),
            ("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET", "abcde", "\r\n", 3),
            ("0003;x=\"y\"\r\nabc\r\n0\r\n\r\n", "abc", "\r\n", 0),
            ("3 \t;x = y \r\nabc\r\n0 ;\r\n\r\n", "abc", "\r\n", 0),
            (
                "1\r\na\r\n0\r\nx: y\r\nz: w\r\n\r\n",
                "a",
                "x: y\r\nz: w\r\n\r\n",
                0,
            ),
        ] {
            for size in [1, 2, 3, 5, 100] {
                let want = Ok((
                    data.as_bytes().to_vec(),
                    trailers.as_bytes().to_vec(),
                    unread,
                ));
                assert_eq!(
                    decode(body.as_bytes(), size).map(|(d, t, l)| (
                        d,
                        t,
                        if size == 100 { l } else { unread }
                    )),
                    want,
                    "{body:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn malformed_bodies_are_rejected() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "0x1\r\n",
            "1\n",
            "1\r\nab",
            "1\r\na\n",
            "1 \n",
            "1;\n",
            "0\r\n\n",
            "1\r\na\r\n\r\n",
            " 1\r\n",
            "0000000000000000\r\n",
            "0\r\nx\n",
            "3 5\r\n",
            "3 \r\n",
            "3\t\r\n",
            "3 \t5;x\r\n",
            "0\r\nx: a\0b\r\n\r\n",
            "0\r\nx: y\r\n z\r\n\r\n",
            "0\r\nx\r\n\r\n",
            "0\r\nx : y\r\n\r\n",
            "0\r\n: y\r\n\r\n",
        ] {
            let mut bytes = body.as_bytes().to_vec();
            let decoded = Decoder::new(64).decode(&mut bytes);
            assert_eq!(decoded, Err(ChunkError::Malformed), "{body:?}");
        }
        for long in [
            format!("1;{}\r\n", "x".repeat(64)),
            format!("0\r\n{}", "x".repeat(65)),
        ] {
            let mut bytes = long.into_bytes();
            assert_eq!(
                Decoder::new(64).decode(&mut bytes),
                Err(ChunkError::TooLong)
            );
        }
    }

    #[test]
    fn sizes_are_hexadecimal() {
        for (size, length) in [
            ("9", 9),
            ("a", 10),
            ("F", 15),
            ("1f", 31),
            ("A0", 160),
            ("00000000000000f", 15),
        ] {
            let body = format!("{size}\r\n{}\r\n0\r\n\r\n", "x".repeat(length));
            let (data, _, unread) = decode(body.as_bytes(), 7).expect(size);
            assert_eq!((data.len(), unread), (length, 0), "{size}");
        }
        let mut largest = b"fffffffffffffff\r\nabc".to_vec();
        let mut decoder = Decoder::new(0);
        let decoded = decoder.decode(&mut largest);
        assert_eq!(decoded, Ok(Decoded { data: 3, read: 20 }));
        assert!(!decoder.is_done());
    }

    #[test]
    fn extensions_and_trailers_share_one_allowance() {
        for (body, allowance) in [
            ("0\r\n\r\n", 2),
            ("0;x\r\n\r\n", 4),
            ("0 ;x\r\na: b\r\n\r\n", 11),
        ] {
            let decode = |allowance| {
                let mut bytes = body.as_bytes().to_vec();
                Decoder::new(allowance)
                    .decode(&mut bytes)
                    .map(|decoded| decoded.read)
            };
            assert_eq!(decode(allowance), Ok(body.len()), "{body:?}");
            assert_eq!(decode(allowance - 1), Err(ChunkError::TooLong), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn chunks_are_joined(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            size in 1usize..50,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(decode(&body, size).unwrap().0, chunks.concat());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Decoder::new(16).decode(&mut bytes);
        }
    }
}
