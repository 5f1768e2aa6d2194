//! Keeps the frames that a connection has to send until they are written.

use crate::http::hpack::FieldLines;
use crate::http::hpack_encoder::Encoder;
use crate::http::http2_frame::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLAGS_AT, FRAME_HEAD, FrameHead, HEADERS,
    MAX_FRAME,
};

/// The frames that were not written yet, in order.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// How many bytes at the front of `bytes` were written.
    written: usize,
    /// How many bytes were written before those of `bytes`.
    base: u64,
    /// How many bytes of control frames were put in since `mark` was set, and how many of those before may wait.
    control: usize,
    older_control: usize,
    /// How many bytes must be written before `older_control` is out of date. A busy connection always has output.
    mark: u64,
}

/// What a header block contains.
pub(super) enum BlockOf<'a> {
    Response(u16, &'a FieldLines),
    Trailers(&'a FieldLines),
}

/// Where a DATA frame was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Output {
    /// Returns the bytes to write next.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Records that `count` bytes at the front were written.
    pub(super) fn consume(&mut self, count: usize) {
        self.written += count;
        if self.base + self.written as u64 >= self.mark {
            self.older_control = std::mem::take(&mut self.control);
            self.mark = self.base + self.bytes.len() as u64;
        }
        if self.written >= self.bytes.len() {
            self.base += self.bytes.len() as u64;
            self.bytes.clear();
            self.older_control = 0;
            if self.bytes.capacity() > MAX_KEPT {
                self.bytes = Vec::new();
            }
        } else if self.written >= self.bytes.len() / 2 {
            self.base += self.written as u64;
            self.bytes.drain(..self.written);
        } else {
            return;
        }
        self.written = 0;
    }

    /// Frees the memory if nothing is to be written.
    pub(super) fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Returns how many bytes of DATA may be put in.
    pub(super) fn room(&self) -> usize {
        MAX_WAITING.saturating_sub(self.bytes().len())
    }

    /// Returns true if so many control frames wait that no more should be caused.
    pub(super) fn is_flooded(&self) -> bool {
        self.control + self.older_control >= MAX_CONTROL
    }

    /// Puts in a frame without flags that is not about the content of a stream.
    pub(super) fn control(&mut self, kind: u8, stream: u32, payload: &[u8]) {
        self.put_control(kind, 0, stream, payload);
    }

    /// Puts in the acknowledgment of SETTINGS or PING.
    pub(super) fn acknowledge(&mut self, kind: u8, payload: &[u8]) {
        self.put_control(kind, ACK, 0, payload);
    }

    fn put_control(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let head = FrameHead {
            length: payload.len(),
            kind,
            flags,
            stream,
        };
        self.control += FRAME_HEAD + payload.len();
        self.bytes.extend_from_slice(&head.bytes());
        self.bytes.extend_from_slice(payload);
    }

    /// Puts in a header block, as HEADERS and as many CONTINUATION frames as it needs.
    pub(super) fn block(
        &mut self,
        stream: u32,
        encoder: &mut Encoder,
        block: &BlockOf<'_>,
        ends: bool,
    ) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(TYPICAL);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; FRAME_HEAD]);
        match block {
            BlockOf::Response(status, fields) => {
                encoder.response(*status, fields, &mut self.bytes);
            }
            BlockOf::Trailers(fields) => encoder.trailers(fields, &mut self.bytes),
        }
        let mut length = self.bytes.len() - start - FRAME_HEAD;
        let mut head = FrameHead {
            length: length.min(MAX_FRAME),
            kind: HEADERS,
            flags: if ends { END_STREAM } else { 0 },
            stream,
        };
        let mut at = start;
        while length > MAX_FRAME {
            self.replace(at, head);
            length -= MAX_FRAME;
            at += FRAME_HEAD + MAX_FRAME;
            self.bytes.splice(at..at, [0; FRAME_HEAD]);
            head = FrameHead {
                length: length.min(MAX_FRAME),
                kind: CONTINUATION,
                flags: 0,
                stream,
            };
        }
        head.flags |= END_HEADERS;
        self.replace(at, head);
    }

    /// Puts in a DATA frame. Its length must be at most that of a frame.
    pub(super) fn data(&mut self, stream: u32, data: &[u8], ends: bool) -> Place {
        let place = Place(self.base + self.bytes.len() as u64);
        let head = FrameHead {
            length: data.len(),
            kind: DATA,
            flags: if ends { END_STREAM } else { 0 },
            stream,
        };
        self.bytes.extend_from_slice(&head.bytes());
        self.bytes.extend_from_slice(data);
        place
    }

    /// Makes a DATA frame the last one of its stream. Returns false if it may have been written already.
    pub(super) fn end_at(&mut self, place: Place) -> bool {
        let Some(at) = place.0.checked_sub(self.base) else {
            return false;
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if at < self.written {
            return false;
        }
        let Some(flags) = self.bytes.get_mut(at.saturating_add(FLAGS_AT)) else {
            return false;
        };
        *flags |= END_STREAM;
        true
    }

    fn replace(&mut self, at: usize, head: FrameHead) {
        if let Some(place) = self.bytes.get_mut(at..at + FRAME_HEAD) {
            place.copy_from_slice(&head.bytes());
        }
    }
}

/// How many bytes may wait to be written before the streams of a connection wait.
const MAX_WAITING: usize = 64 * 1024;

/// How many bytes of control frames may wait before nothing more is read.
const MAX_CONTROL: usize = 16 * 1024;

/// Somewhat more than a small response.
const TYPICAL: usize = 4 * 1024;

/// Largest buffer that is kept when all was written.
const MAX_KEPT: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::hpack::Decoder;
    use crate::http::http2_frame::PING;

    #[test]
    fn the_last_frame_of_a_stream_is_marked_until_it_is_written() {
        let mut output = Output::default();
        output.control(PING, 0, &[0; 8]);
        let first = output.data(1, b"abc", false);
        let second = output.data(3, b"de", false);
        assert_eq!(output.bytes().len(), 17 + 12 + 11);
        assert!(output.end_at(first));
        output.consume(17);
        assert!(output.end_at(second));
        assert_eq!(
            output.bytes(),
            [
                &[0, 0, 3, 0, 1, 0, 0, 0, 1][..],
                b"abc",
                &[0, 0, 2, 0, 1, 0, 0, 0, 3],
                b"de"
            ]
            .concat()
        );
        output.consume(1);
        assert!(!output.end_at(first), "its first byte was written");
        output.consume(12);
        assert!(!output.end_at(second));
        output.consume(10);
        assert!(output.bytes().is_empty());
        assert!(!output.end_at(second));
        let third = output.data(5, b"", true);
        assert_eq!(output.bytes(), [0, 0, 0, 0, 1, 0, 0, 0, 5]);
        assert!(output.end_at(third));

        let mut output = Output::default();
        let first = output.data(1, b"abc", false);
        output.consume(12);
        output.data(3, b"abc", false);
        assert!(!output.end_at(first), "its place is that of another one");
    }

    #[test]
    fn a_long_block_has_several_frames() {
        for size in [10, MAX_FRAME - 30, MAX_FRAME, 50_000] {
            let mut fields = FieldLines::default();
            fields.push(b"x", &vec![b'y'; size]);
            let mut output = Output::default();
            output.data(1, b"before", false);
            output.consume(15);
            output.block(
                3,
                &mut Encoder::new(),
                &BlockOf::Response(200, &fields),
                true,
            );
            let (mut rest, mut block, mut kinds) = (output.bytes(), Vec::new(), Vec::new());
            while let Some(head) = FrameHead::read(rest) {
                assert!(head.length <= MAX_FRAME && head.stream == 3);
                let (frame, others) = rest.split_at(FRAME_HEAD + head.length);
                block.extend_from_slice(&frame[FRAME_HEAD..]);
                kinds.push((head.kind, head.flags));
                rest = others;
            }
            assert!(rest.is_empty());
            let last = kinds.len() - 1;
            for (number, (kind, flags)) in kinds.into_iter().enumerate() {
                assert_eq!(kind, if number == 0 { HEADERS } else { CONTINUATION });
                assert_eq!(flags & END_HEADERS != 0, number == last);
                assert_eq!(flags & END_STREAM != 0, number == 0);
            }
            let lines = Decoder::new().decode(&block, 100_000).expect("a block");
            let sizes: Vec<usize> = lines.iter().map(|(_, value)| value.len()).collect();
            assert_eq!(sizes, [3, size]);
        }
    }

    #[test]
    fn limits() {
        let mut output = Output::default();
        assert_eq!(output.room(), MAX_WAITING);
        output.data(1, &[0; 991], false);
        assert_eq!(output.room(), MAX_WAITING - 1000);
        for _ in 0..MAX_CONTROL / 17 {
            output.control(PING, 0, &[0; 8]);
        }
        assert!(!output.is_flooded());
        output.control(PING, 0, &[0; 8]);
        assert!(output.is_flooded());
        output.consume(output.bytes().len());
        assert!(!output.is_flooded());
    }

    /// The output of a busy connection may never be empty.
    #[test]
    fn control_frames_that_were_written_do_not_count() {
        let mut output = Output::default();
        output.data(1, &[0; 50_000], false);
        for number in 0..10_000 {
            output.control(PING, 0, &[0; 8]);
            output.data(1, &[0; 991], false);
            output.consume(1017);
            assert!(!output.is_flooded(), "{number}");
        }
        let mut output = Output::default();
        output.data(1, &[0; 50_000], false);
        for _ in 0..=MAX_CONTROL / 17 {
            output.control(PING, 0, &[0; 8]);
            output.consume(1);
        }
        assert!(output.is_flooded());
    }
}
