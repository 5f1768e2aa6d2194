//! Reads and writes WebSocket frames (RFC 6455).

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// True for the last frame of a message.
    pub(crate) is_last: bool,
    /// True if an extension changed the payload (RSV1).
    pub(crate) is_compressed: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Parses the first frame of `bytes`, and returns its length with it; `None` if it is incomplete.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let [first, second, rest @ ..] = bytes else {
            return None;
        };
        let (length, rest) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), rest),
        };
        let (mask, rest) = if second & 0x80 == 0 {
            ([0; 4], rest)
        } else {
            let (mask, rest) = rest.split_first_chunk()?;
            (*mask, rest)
        };
        let length = usize::try_from(length).ok()?;
        let masked = rest.get(..length)?;
        let payload = masked.iter().zip(mask.iter().cycle());
        let frame = Self {
            is_last: first & 0x80 != 0,
            is_compressed: first & 0x40 != 0,
            opcode: first & 0x0f,
            payload: payload.map(|(octet, mask)| octet ^ mask).collect(),
        };
        let used = bytes.len().checked_sub(rest.len())?.checked_add(length)?;
        Some((frame, used))
    }

    /// Returns the bytes of a masked frame. The mask is zero: it protects old caches against scripts, and here is none.
    pub(crate) fn of_client(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80 | opcode];
        match u16::try_from(payload.len()) {
            Ok(length) if length < 126 => {
                bytes.push(0x80 | u8::try_from(length).unwrap_or_default());
            }
            Ok(length) => {
                bytes.push(0x80 | 126);
                bytes.extend(length.to_be_bytes());
            }
            Err(_) => {
                bytes.push(0x80 | 127);
                bytes.extend((payload.len() as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    /// Returns the code of a close frame; `None` if it has none.
    pub(crate) fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk()?;
        (self.opcode == CLOSE).then_some(u16::from_be_bytes(*code))
    }
}

pub(crate) const BINARY: u8 = 2;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read() {
        let (close, length) = Frame::parse(b"\x88\x02\x03\xf4rest").expect("a frame");
        assert_eq!((close.close_code(), length), (Some(1012), 4));
        for incomplete in [
            &b"\x88"[..],
            b"\x82\x7e\x00",
            b"\x82\x7e\x00\x80\x00",
            b"\x82\x02a",
        ] {
            assert_eq!(Frame::parse(incomplete), None);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 125, 126, 65535, 65536] {
            let payload = vec![7; length];
            let bytes = Frame::of_client(BINARY, &payload);
            let (frame, used) = Frame::parse(&bytes).expect("a frame");
            assert_eq!((frame.payload, used), (payload, bytes.len()));
        }
    }
}
