//! Computes WebSocket handshake keys, RFC 6455 §4.2.2, and finds frame boundaries, §5.2, and close codes, §5.5.1.
//!
//! Only the length of a frame is read, and the code of a close frame; other content is not interpreted.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};

/// Returns the `Sec-WebSocket-Accept` for a key.
pub(crate) fn accept(key: &[u8]) -> String {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(ACCEPT_GUID)
        .finalize();
    BASE64_STANDARD.encode(digest)
}

/// Returns a new key: sixteen random bytes.
pub(crate) fn new_key() -> String {
    BASE64_STANDARD.encode(uuid::Uuid::new_v4().as_bytes())
}

/// Tracks the frames that pass, to find the boundaries between them.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; 14],
    /// Number of header bytes that have passed.
    known: usize,
    /// Bytes of the payload that have not passed yet.
    remaining: u64,
    /// The first close frame.
    close: Option<CloseFrame>,
}

/// The beginning of a close frame.
#[derive(Debug, Default)]
struct CloseFrame {
    code: [u8; 2],
    /// Number of the code's bytes that have passed.
    known: usize,
    /// Zero if the frame is not masked.
    mask: [u8; 2],
}

impl Frames {
    /// Tracks bytes that pass.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while let Some(end) = self.pass_frame(bytes) {
            bytes = bytes.get(end..).unwrap_or_default();
        }
    }

    /// Tracks the bytes that belong to the current frame, and returns their number; `None` if the frame continues after
    /// them.
    pub(crate) fn pass_frame(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        loop {
            if self.remaining > 0 {
                let skipped = usize::try_from(self.remaining)
                    .map_or(rest.len(), |remaining| remaining.min(rest.len()));
                self.remaining -= skipped as u64;
                let (payload, after) = rest.split_at_checked(skipped).unwrap_or((rest, &[]));
                self.keep_close_code(payload);
                rest = after;
                if self.remaining == 0 {
                    return Some(bytes.len() - rest.len());
                }
            }
            let missing = self.header_length() - self.known;
            let (octets, after) = rest.split_at_checked(missing.min(rest.len()))?;
            if octets.is_empty() {
                return None;
            }
            for (place, octet) in self.header.iter_mut().skip(self.known).zip(octets) {
                *place = *octet;
            }
            self.known += octets.len();
            rest = after;
            if self.known == self.header_length() {
                self.begin();
                if self.remaining == 0 {
                    return Some(bytes.len() - rest.len());
                }
            }
        }
    }

    /// Returns the code of the first close frame that has passed, [`NO_CODE`] if it has none; `None` if there was no close
    /// frame, or its code has not passed yet.
    pub(crate) fn close_code(&self) -> Option<u16> {
        let close = self.close.as_ref()?;
        match close.known {
            2 => {
                let [[high, low], [first, second]] = [close.code, close.mask];
                Some(u16::from_be_bytes([high ^ first, low ^ second]))
            }
            // One byte is no code, which the other side will notice.
            _ if self.is_at_boundary() => Some(NO_CODE),
            _ => None,
        }
    }

    /// Keeps the code if the current frame is the first close frame. `payload`: what of it has passed with this piece.
    fn keep_close_code(&mut self, payload: &[u8]) {
        if let Some(close) = &mut self.close {
            for octet in payload {
                if let Some(place) = close.code.get_mut(close.known) {
                    *place = *octet;
                    close.known += 1;
                }
            }
        }
    }

    /// Begins a frame, whose header is complete.
    fn begin(&mut self) {
        let [first, second, rest @ ..] = self.header;
        if self.close.is_none() && first & 0x0f == OPCODE_CLOSE {
            // A control frame has a short length, so the mask follows at once.
            let [one, other, ..] = rest;
            let is_masked = second & 0x80 != 0;
            self.close = Some(CloseFrame {
                mask: if is_masked { [one, other] } else { [0, 0] },
                ..CloseFrame::default()
            });
        }
        let [long @ .., _, _, _, _] = rest;
        let [high, low, ..] = long;
        self.remaining = match second & 0x7f {
            126 => u16::from_be_bytes([high, low]).into(),
            127 => u64::from_be_bytes(long),
            length => length.into(),
        };
        self.known = 0;
    }

    /// Returns true if only whole frames have passed, so that another one may be inserted.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.known == 0 && self.remaining == 0
    }

    /// Returns the length of the current header; 2 until the second byte, which tells it, has passed.
    fn header_length(&self) -> usize {
        let [_, second, ..] = self.header;
        if self.known < 2 {
            return 2;
        }
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }
}

/// The close code of a server that restarts, IANA's registry of WebSocket close codes.
pub(crate) const SERVICE_RESTART: u16 = 1012;

/// A close frame of a server with code 1012, Service Restart, after which clients reconnect.
pub(crate) const CLOSE_RESTART: [u8; 4] = [0x88, 2, 0x03, 0xf4];

/// What [`Frames::close_code`] returns for a close frame without a code, RFC 6455 §7.1.5.
pub(crate) const NO_CODE: u16 = 1005;

/// RFC 6455 §5.2.
const OPCODE_CLOSE: u8 = 8;

/// RFC 6455 §1.3.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    #[test]
    fn the_accept_of_a_key() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    /// RFC 6455 §4.1.
    #[test]
    fn a_new_key_is_sixteen_bytes_of_its_own() {
        let (one, other) = (new_key(), new_key());
        assert_eq!(BASE64_STANDARD.decode(&one).unwrap().len(), 16);
        assert_ne!(one, other);
    }

    #[test]
    fn lengths_of_headers_and_payloads() {
        let mut long = [0x82, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0];
        for (header, payload) in [
            (&[0x89, 0][..], 0),
            (&[0x81, 125], 125),
            (&[0x81, 126, 0, 126], 126),
            (&[0x81, 126, 0xff, 0xfe], 0xfffe),
            (&[0x81, 0x80, 0, 0, 0, 0], 0),
            (&[0x81, 0xfe, 1, 2, 0, 0, 0, 0], 0x0102),
            (&long, 0x0102_0304_0506_0708),
        ] {
            let mut frames = Frames::default();
            let (before, last) = header.split_at(header.len() - 1);
            frames.pass(before);
            assert_eq!(frames.remaining, 0, "{header:?}");
            assert!(!frames.is_at_boundary(), "{header:?}");
            frames.pass(last);
            assert_eq!(frames.remaining, payload, "{header:?}");
            assert_eq!(frames.is_at_boundary(), payload == 0, "{header:?}");
        }
        long[1] = 127;
        let mut frames = Frames::default();
        frames.pass(&long);
        assert_eq!(frames.remaining, 0x0102_0304_0506_0708 - 4);
    }

    #[test]
    fn boundaries_are_found_in_pieces_of_any_size() {
        let small = [&[0x81, 3][..], b"abc"].concat();
        let masked = [&[0x82, 0x83, 1, 2, 3, 4][..], b"abc"].concat();
        let medium = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        let large = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[7; 65_536]].concat();
        for frame in [&small, &masked, &medium, &large] {
            for size in [1, 2, 3, 7, 100_000] {
                let mut frames = Frames::default();
                let twice = [frame.as_slice(), frame].concat();
                let mut passed = 0;
                for piece in twice.chunks(size) {
                    frames.pass(piece);
                    passed += piece.len();
                    let is_at_boundary = passed % frame.len() == 0;
                    assert_eq!(
                        frames.is_at_boundary(),
                        is_at_boundary,
                        "{passed} of {}",
                        frame.len()
                    );
                }
            }
        }
    }

    #[test]
    fn the_code_of_the_first_close_frame_is_found() {
        let message = [&[0x81, 3][..], b"abc"].concat();
        // 1001 with a reason; the masked one is from a client.
        let plain = [&[0x88, 5, 0x03, 0xe9][..], b"bye"].concat();
        let masked = [0x88, 0x82, 7, 8, 9, 10, 0x03 ^ 7, 0xe9 ^ 8];
        let other = [0x88, 2, 0x0f, 0xa0];
        // Its second payload byte is like an opcode.
        let text = [0x81, 2, 0x88, 2];
        for (frames, expected) in [
            (message.clone(), None),
            (text.to_vec(), None),
            ([&message[..], &plain].concat(), Some(1001)),
            ([&message[..], &masked].concat(), Some(1001)),
            ([&plain[..], &other].concat(), Some(1001)),
            ([&other[..], &plain].concat(), Some(4000)),
            (vec![0x88, 0], Some(NO_CODE)),
            (vec![0x88, 0x80, 1, 2, 3, 4], Some(NO_CODE)),
            (vec![0x88, 1, 3], Some(NO_CODE)),
            (vec![0x88, 2, 3], None),
            (vec![0x88], None),
        ] {
            for size in [1, 2, 100] {
                let mut follower = Frames::default();
                for piece in frames.chunks(size) {
                    follower.pass(piece);
                }
                assert_eq!(follower.close_code(), expected, "{frames:?}");
            }
        }
    }

    #[test]
    fn the_end_of_the_current_frame_is_found() {
        let frames = [
            &[0x81, 3][..],
            b"abc",
            &[0x89, 0],
            &[0x82, 126, 1, 0],
            &[7; 256],
        ]
        .concat();
        for (passed, want) in [
            (0, 5),
            (1, 4),
            (2, 3),
            (4, 1),
            (5, 2),
            (6, 1),
            (7, 260),
            (9, 258),
        ] {
            let mut follower = Frames::default();
            let (before, after) = frames.split_at(passed);
            follower.pass(before);
            assert_eq!(follower.pass_frame(after), Some(want), "after {passed}");
            assert!(follower.is_at_boundary());
        }
        let mut follower = Frames::default();
        assert_eq!(follower.pass_frame(&frames[..4]), None);
        assert_eq!(follower.pass_frame(&[]), None);
        assert!(!follower.is_at_boundary());
    }
}
