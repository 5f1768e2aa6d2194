//! Reads and writes the heads of HTTP/2 frames, RFC 9113 §4.1, and names what is in them.

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// Length of the payload.
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// 0: the connection.
    pub(crate) stream: u32,
}

/// Why a stream or a connection ends, RFC 9113 §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    None = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

impl FrameHead {
    /// Reads the head at the front of `bytes`; `None` if some of it is missing.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, a, b, c, d] = *bytes.first_chunk::<FRAME_HEAD>()?;
        Some(Self {
            length: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            // The first bit is reserved and ignored.
            stream: u32::from_be_bytes([a, b, c, d]) & MAX_STREAM_ID,
        })
    }

    /// Returns the bytes of the head. The length must be below 2^24.
    pub(crate) fn bytes(self) -> [u8; FRAME_HEAD] {
        let [_, high, middle, low] = u32::try_from(self.length).unwrap_or_default().to_be_bytes();
        let [a, b, c, d] = self.stream.to_be_bytes();
        [high, middle, low, self.kind, self.flags, a, b, c, d]
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Types of frames, RFC 9113 §6.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags. `ACK` is that of SETTINGS and PING, the others are those of DATA and HEADERS.
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const HAS_PRIORITY: u8 = 0x20;

/// Settings, RFC 9113 §6.5.2 and RFC 8441 §3.
pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// What a client sends first, RFC 9113 §3.4.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length of a frame's head.
pub(crate) const FRAME_HEAD: usize = 9;

/// Where the flags of a frame are.
pub(crate) const FLAGS_AT: usize = 4;

/// Maximum length of a frame's payload without a setting, RFC 9113 §4.2. This server announces no other.
pub(crate) const MAX_FRAME: usize = 16_384;

pub(crate) const MAX_STREAM_ID: u32 = 0x7fff_ffff;

/// Largest flow-control window, and the one without a setting, RFC 9113 §6.9.
pub(crate) const MAX_WINDOW: i64 = 0x7fff_ffff;
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = FrameHead {
            length: 0x01_02_03,
            kind: 4,
            flags: 5,
            stream: 0x7607_0809,
        };
        assert_eq!(head.bytes(), [1, 2, 3, 4, 5, 0x76, 7, 8, 9]);
        assert_eq!(FrameHead::read(&head.bytes()), Some(head));
        let reserved = [1, 2, 3, 4, 5, 0xf6, 7, 8, 9, 10];
        assert_eq!(FrameHead::read(&reserved), Some(head));
        assert_eq!(FrameHead::read(&reserved[..8]), None);
        assert!(head.has(END_HEADERS) && !head.has(PADDED));
    }
}
