//! Assembles a header block from HEADERS and CONTINUATION frames, RFC 9113 §4.3.
//!
//! The cost of a block is bounded: its size and its number of frames, however it is cut.

use crate::http::hpack::ABUSE;
use crate::http::http2_frame::{
    END_HEADERS, ErrorCode, FrameHead, HAS_PRIORITY, MAX_FRAME, PADDED,
};

/// A block of which some frames are missing.
#[derive(Debug)]
pub(super) struct Block {
    /// The head of HEADERS.
    pub(super) head: FrameHead,
    pub(super) fragments: Vec<u8>,
    /// Number of CONTINUATION frames.
    continuations: usize,
}

impl Block {
    /// Begins with the fragment of HEADERS.
    pub(super) fn new(head: FrameHead, fragment: &[u8]) -> Self {
        Self {
            head,
            fragments: fragment.to_vec(),
            continuations: 0,
        }
    }

    /// Appends a CONTINUATION frame. Returns true if the block is complete. `max`: limit of a block, as in
    /// [`Decoder::decode`](crate::http::hpack::Decoder::decode).
    pub(super) fn append(
        &mut self,
        head: FrameHead,
        fragment: &[u8],
        max: usize,
    ) -> Result<bool, ErrorCode> {
        self.continuations += 1;
        let max = max.saturating_mul(ABUSE);
        if self.continuations > MAX_CONTINUATIONS + max / MAX_FRAME
            || self.fragments.len() + fragment.len() > max
        {
            return Err(ErrorCode::EnhanceYourCalm);
        }
        self.fragments.extend_from_slice(fragment);
        Ok(head.has(END_HEADERS))
    }
}

/// Returns the payload without its padding, RFC 9113 §6.1; `None` if it is too short.
pub(super) fn without_padding(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    let end = rest.len().checked_sub(usize::from(*padding))?;
    rest.get(..end)
}

/// Returns the fragment in the payload of HEADERS, RFC 9113 §6.2; `None` if it is too short.
pub(super) fn fragment(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    let payload = without_padding(head, payload)?;
    if head.has(HAS_PRIORITY) {
        // Priorities are not used any more, RFC 9113 §5.3.
        return payload.get(PRIORITY_LENGTH..);
    }
    Some(payload)
}

/// Length of a priority in HEADERS and PRIORITY.
pub(super) const PRIORITY_LENGTH: usize = 5;

/// How many CONTINUATION frames a block may have, in addition to those that its size needs.
const MAX_CONTINUATIONS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::http2_frame::HEADERS;

    fn head(flags: u8) -> FrameHead {
        FrameHead {
            length: 0,
            kind: HEADERS,
            flags,
            stream: 1,
        }
    }

    #[test]
    fn padding_and_priority_are_removed() {
        for (flags, payload, want) in [
            (0, &b"block"[..], Some(&b"block"[..])),
            (0, b"", Some(b"")),
            (PADDED, b"\x02block12", Some(b"block")),
            (PADDED, b"\x00", Some(b"")),
            (PADDED, b"\x02block", Some(b"blo")),
            (PADDED, b"\x05block", Some(b"")),
            (PADDED, b"\x06block", None),
            (PADDED, b"", None),
            (HAS_PRIORITY, b"12345block", Some(b"block")),
            (HAS_PRIORITY, b"1234", None),
            (PADDED | HAS_PRIORITY, b"\x0112345block1", Some(b"block")),
            (PADDED | HAS_PRIORITY, b"\x0212345b", None),
        ] {
            assert_eq!(fragment(head(flags), payload), want, "{flags} {payload:?}");
        }
    }

    #[test]
    fn a_block_has_a_limit() {
        let mut block = Block::new(head(0), b"a");
        let append =
            |block: &mut Block, flags, fragment: &[u8]| block.append(head(flags), fragment, 100);
        assert_eq!(append(&mut block, 0, &[b'b'; 398]), Ok(false));
        assert_eq!(append(&mut block, END_HEADERS, b"c"), Ok(true));
        assert_eq!(block.fragments.len(), 400);
        let excess = Err(ErrorCode::EnhanceYourCalm);
        assert_eq!(append(&mut block, END_HEADERS, b"d"), excess);
        let mut block = Block::new(head(0), b"");
        for _ in 0..MAX_CONTINUATIONS {
            assert_eq!(append(&mut block, 0, b""), Ok(false));
        }
        assert_eq!(append(&mut block, END_HEADERS, b""), excess);
    }
}
