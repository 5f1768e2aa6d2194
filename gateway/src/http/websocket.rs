//! What is an honest WebSocket handshake, and where does a frame end?
//!
//! RFC 6455 §4.2.2 and §5.2. Of the frames only the lengths are read: what is in them is between the browser and the
//! app.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};

use crate::settings::Limits;

/// The `Sec-WebSocket-Accept` that answers a key.
pub(crate) fn accept(key: &[u8]) -> String {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(ACCEPT_GUID)
        .finalize();
    BASE64_STANDARD.encode(digest)
}

/// A key for a handshake of our own: sixteen random bytes.
pub(crate) fn new_key() -> String {
    BASE64_STANDARD.encode(uuid::Uuid::new_v4().as_bytes())
}

/// Refuses a handshake that Streamlit would never answer: it leaves one with a long header line, or with very many lines,
/// open for ever. A browser with too many cookies sends such a handshake. The text says what to do.
pub(crate) fn fits(head: &[u8], limits: &Limits) -> Result<(), String> {
    let mut lines = 0;
    let mut longest = 0;
    for line in head.split(|octet| *octet == b'\n') {
        lines += 1;
        longest = longest.max(line.len() + 1);
    }
    // Neither the request line nor the empty line at the end is a field.
    let fields = lines - 3;
    if longest > limits.websocket_line_bytes {
        return Err(format!(
            "A header line of this WebSocket handshake has {longest} bytes, of which Streamlit takes {}. Too many cookies? \
             FLUXLIT_DROP_COOKIES keeps an auth proxy's from it; with WEBSOCKETS_MAX_LINE_LENGTH Streamlit takes more, and \
             FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES tells the gateway.",
            limits.websocket_line_bytes
        ));
    }
    if fields > limits.websocket_fields {
        return Err(format!(
            "This WebSocket handshake has {fields} header lines, of which Streamlit takes {}. With \
             WEBSOCKETS_MAX_NUM_HEADERS it takes more, and FLUXLIT_GATEWAY_WS_MAX_HEADER_COUNT tells the gateway.",
            limits.websocket_fields
        ));
    }
    Ok(())
}

/// Follows the frames that pass, to find the places between them.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; 14],
    /// How many bytes of the header are known.
    known: usize,
    /// Bytes of the frame that are to come.
    left: u64,
}

impl Frames {
    /// Tells of bytes that have passed.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while let Some(end) = self.pass_frame(bytes) {
            bytes = bytes.get(end..).unwrap_or_default();
        }
    }

    /// Tells of bytes that have passed, up to the end of the frame that they begin in; returns how many these are, or
    /// `None` if the frame goes on behind them.
    pub(crate) fn pass_frame(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        loop {
            if self.left > 0 {
                let skipped =
                    usize::try_from(self.left).map_or(rest.len(), |left| left.min(rest.len()));
                self.left -= skipped as u64;
                rest = rest.get(skipped..).unwrap_or_default();
                if self.left == 0 {
                    return Some(bytes.len() - rest.len());
                }
            }
            let [first, after @ ..] = rest else {
                return None;
            };
            if let Some(place) = self.header.get_mut(self.known) {
                *place = *first;
            }
            self.known += 1;
            rest = after;
            if let Some(payload) = self.payload() {
                self.left = payload;
                self.known = 0;
                if payload == 0 {
                    return Some(bytes.len() - rest.len());
                }
            }
        }
    }

    /// Whether a whole number of frames has passed, so that one more may follow.
    pub(crate) fn is_between(&self) -> bool {
        self.known == 0 && self.left == 0
    }

    /// The length of the payload, once the header is known.
    fn payload(&self) -> Option<u64> {
        let [_, second, ..] = self.header;
        if self.known < 2 {
            return None;
        }
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        if self.known < 2 + length_bytes + mask_bytes {
            return None;
        }
        let extended = self.header.get(2..2 + length_bytes).unwrap_or_default();
        Some(if length_bytes == 0 {
            u64::from(second & 0x7f)
        } else {
            extended
                .iter()
                .fold(0, |length, octet| length << 8 | u64::from(*octet))
        })
    }
}

/// A close frame of a server, with the code 1012: the service restarts, so come again.
pub(crate) const CLOSE_RESTART: [u8; 4] = [0x88, 2, 0x03, 0xf4];

/// RFC 6455 §1.3.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    #[test]
    fn the_answer_to_a_key() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn places_between_frames() {
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
                    let is_between = passed % frame.len() == 0;
                    assert_eq!(
                        frames.is_between(),
                        is_between,
                        "{passed} of {}",
                        frame.len()
                    );
                }
            }
        }
    }

    #[test]
    fn the_end_of_the_frame_under_way() {
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
            assert_eq!(follower.pass_frame(after), Some(want), "behind {passed}");
            assert!(follower.is_between());
        }
        let mut follower = Frames::default();
        assert_eq!(follower.pass_frame(&frames[..4]), None);
        assert_eq!(follower.pass_frame(&[]), None);
        assert!(!follower.is_between());
    }

    #[test]
    fn handshakes_that_streamlit_answers() {
        let limits = Limits::default();
        let with = |line: String| format!("GET / HTTP/1.1\r\nhost: a\r\n{line}\r\n");
        assert_eq!(
            fits(with("cookie: a=b\r\n".to_owned()).as_bytes(), &limits),
            Ok(())
        );
        let long = with(format!("cookie: {}\r\n", "x".repeat(9000)));
        assert!(
            fits(long.as_bytes(), &limits)
                .unwrap_err()
                .contains("cookies")
        );
        let many = with("x: y\r\n".repeat(150));
        assert!(
            fits(many.as_bytes(), &limits)
                .unwrap_err()
                .contains("151 header lines")
        );
    }
}
