//! Takes the header blocks out of the frames that a client sends, RFC 9113 §4, before the `h2` crate sees them.
//!
//! The gateway reads the field lines of requests itself, and gives the crate a substitute for each block: a request
//! without fields on the same stream. The crate still does everything else: streams, flow control, settings, all that is
//! sent.
//!
//! # Why not leave the header blocks to h2
//!
//! h2 0.4.20 makes an `http::Request` of each block, and has no option to see it before. So targets with `"`, `<` or
//! octets above ASCII are reset before the policy can judge them, and a fragment is cut off silently; an invalid value ends
//! the whole connection; field names with `"` pass; the order of fields is lost. HTTP/1.1 has other rules, so a request
//! would depend on the version that carries it.
//!
//! The substitute does not use the crate's dynamic table, so the two decoders need not be in step, and nothing that a
//! client writes into a header block reaches the crate, except a valid content-length. A request costs no more than with
//! the crate alone: for a GET with the header fields of a browser, the CPU time was 0.98 of it (median of paired rounds).
//!
//! The input is untrusted. Its cost is bounded: the size of a block, its number of frames, the size of what it is decoded to
//! ([`hpack`](crate::http::hpack)), and the heads and frames that may be passed on before the requests are taken.

use std::collections::VecDeque;

use crate::http::framing::{Framing, Length};
use crate::http::head::Version;
use crate::http::hpack::{ABUSE, Decoder, FieldLines, HpackError};
use crate::http::http2_head::{TrailersError, check_trailers};

/// Reads the frames of one connection.
#[derive(Debug)]
pub(crate) struct RequestFrames {
    state: State,
    /// The block whose frames are arriving.
    block: Option<Block>,
    /// The number of blocks that have begun.
    blocks: u64,
    decoder: Decoder,
    /// The highest stream that a client has opened.
    last_stream: u32,
    /// The heads of requests that were passed on but not taken, in order.
    heads: VecDeque<(u32, FieldLines)>,
    /// Bytes that are passed on but did not fit in place.
    overflow: Vec<u8>,
    /// DATA frames that were passed on since the last pause.
    data_frames: usize,
    /// True if the crate has read all that was passed on.
    is_read: bool,
    error: Option<ConnectionError>,
    max_block: usize,
}

/// The reason for which a connection must end, RFC 9113 §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionError {
    Compression,
    /// The client costs too much.
    Excess,
    FrameSize,
    Protocol,
}

#[derive(Debug)]
enum State {
    /// The connection preface, of which this many bytes are missing.
    Preface(usize),
    /// The head of a frame, of which this many bytes have arrived.
    FrameHead([u8; FRAME_HEAD], usize),
    /// A frame that is passed on, of which this many bytes are missing.
    Passing(usize),
    /// A part of a header block, of which this many bytes are missing.
    Block(usize),
}

/// A header block, RFC 9113 §4.3.
#[derive(Debug)]
struct Block {
    stream: u32,
    /// The flags of HEADERS.
    flags: u8,
    /// The five bytes of HEADERS that the crate checks, RFC 9113 §6.2.
    priority: Option<[u8; PRIORITY_LENGTH]>,
    bytes: Vec<u8>,
    /// Number of CONTINUATION frames.
    continuations: usize,
    /// True if the frame that is arriving is the last one.
    is_last: bool,
}

impl RequestFrames {
    /// `max_block`: limit of a header block in bytes, as RFC 9113 §10.5.1 counts them. A larger one is rejected.
    pub(crate) fn new(max_block: usize) -> Self {
        Self {
            state: State::Preface(PREFACE_LENGTH),
            block: None,
            blocks: 0,
            decoder: Decoder::new(),
            last_stream: 0,
            heads: VecDeque::new(),
            overflow: Vec::new(),
            data_frames: 0,
            is_read: true,
            error: None,
            max_block,
        }
    }

    /// Processes the next bytes of the connection in place. Returns how many bytes at their front are passed on. More of
    /// them may be in [`RequestFrames::take_overflow`], which must be empty before.
    pub(crate) fn process(&mut self, bytes: &mut [u8]) -> usize {
        let mut bytes = InPlace {
            bytes,
            read: 0,
            written: 0,
            overflow: std::mem::take(&mut self.overflow),
        };
        while self.error.is_none() && !bytes.is_empty() {
            if let Err(error) = self.step(&mut bytes) {
                self.error = Some(error);
            }
        }
        self.overflow = bytes.overflow;
        bytes.written
    }

    /// Passes up to `max` bytes that did not fit in place to `put`. Returns false if there are none.
    pub(crate) fn take_overflow(&mut self, max: usize, put: impl FnOnce(&[u8])) -> bool {
        let count = self.overflow.len().min(max);
        put(self.overflow.get(..count).unwrap_or_default());
        self.overflow.drain(..count);
        count > 0
    }

    /// Returns the reason for which the connection must end.
    pub(crate) fn error(&self) -> Option<ConnectionError> {
        self.error
    }

    /// Returns the number of the block whose frames are arriving.
    pub(crate) fn unfinished_block(&self) -> Option<u64> {
        self.block.is_some().then_some(self.blocks)
    }

    /// Returns true if nothing more should be read before the requests that were passed on are taken.
    pub(crate) fn must_pause(&self) -> bool {
        let is_full = self.heads.len() >= MAX_WAITING_HEADS
            || self.data_frames >= MAX_WAITING_DATA
            || self.waiting_memory() >= MAX_WAITING_MEMORY;
        is_full || self.error.is_some()
    }

    /// Returns the head of the request on `stream`. Streams must be asked for in the order in which they were opened.
    pub(crate) fn take_head(&mut self, stream: u32) -> Option<FieldLines> {
        while let Some((front, _)) = self.heads.front()
            && *front <= stream
        {
            let (front, head) = self.heads.pop_front()?;
            if front == stream {
                return Some(head);
            }
        }
        None
    }

    /// Returns the head of the next request.
    #[cfg(fuzzing)]
    pub(crate) fn take_next_head(&mut self) -> Option<FieldLines> {
        self.heads.pop_front().map(|(_, head)| head)
    }

    /// Records whether the crate has read all that was passed on, and has asked for more.
    pub(crate) fn set_read(&mut self, is_read: bool) {
        self.is_read = is_read;
    }

    /// Continues after a pause, if the crate has no more requests. Heads that are left belong to streams that it refused.
    ///
    /// While the crate cannot write, it does not read either, and requests that were passed on come later.
    pub(crate) fn resume_if_taken(&mut self) {
        if self.is_read {
            self.heads.clear();
            self.data_frames = 0;
        }
    }

    fn waiting_memory(&self) -> usize {
        self.heads.iter().map(|(_, head)| head.memory()).sum()
    }

    fn step(&mut self, bytes: &mut InPlace<'_>) -> Result<(), ConnectionError> {
        match &mut self.state {
            State::Preface(missing) | State::Passing(missing) => {
                *missing -= bytes.keep(*missing);
                if *missing == 0 {
                    self.state = State::next_frame();
                }
                Ok(())
            }
            State::FrameHead(head, filled) => {
                let free = head.get_mut(*filled..).unwrap_or_default();
                let taken = bytes.take(free.len());
                if let Some(free) = free.get_mut(..taken.len()) {
                    free.copy_from_slice(taken);
                }
                *filled += taken.len();
                if *filled < FRAME_HEAD {
                    return Ok(());
                }
                let head = *head;
                self.begin_frame(head, bytes)
            }
            State::Block(missing) => {
                let taken = bytes.take(*missing);
                *missing -= taken.len();
                let is_whole = *missing == 0;
                if let Some(block) = &mut self.block {
                    block.bytes.extend_from_slice(taken);
                }
                if is_whole {
                    self.end_block_frame(bytes)?;
                }
                Ok(())
            }
        }
    }

    fn begin_frame(
        &mut self,
        head: [u8; FRAME_HEAD],
        bytes: &mut InPlace<'_>,
    ) -> Result<(), ConnectionError> {
        let [high, middle, low, kind, flags, a, b, c, d] = head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let stream = u32::from_be_bytes([a, b, c, d]) & STREAM_ID;
        match (&mut self.block, kind) {
            (Some(block), CONTINUATION) if block.stream == stream => {
                block.continuations += 1;
                block.is_last = flags & END_HEADERS != 0;
                let max = self.max_block.saturating_mul(ABUSE);
                if block.continuations > MAX_CONTINUATIONS + max / MAX_FRAME
                    || block.bytes.len() + length > max
                {
                    return Err(ConnectionError::Excess);
                }
            }
            (None, HEADERS) => {
                if stream == 0 {
                    return Err(ConnectionError::Protocol);
                }
                self.blocks += 1;
                self.block = Some(Block {
                    stream,
                    flags,
                    priority: None,
                    bytes: Vec::with_capacity(length.min(MAX_FRAME)),
                    continuations: 0,
                    is_last: flags & END_HEADERS != 0,
                });
            }
            // Nothing may come between the frames of a block, and a client must not push.
            (Some(_), _) | (None, CONTINUATION | PUSH_PROMISE) => {
                return Err(ConnectionError::Protocol);
            }
            (None, kind) => {
                self.data_frames += usize::from(kind == DATA);
                bytes.put(&head);
                self.state = match length {
                    0 => State::next_frame(),
                    length => State::Passing(length),
                };
                return Ok(());
            }
        }
        if length > MAX_FRAME {
            return Err(ConnectionError::FrameSize);
        }
        self.state = State::Block(length);
        if length == 0 {
            self.end_block_frame(bytes)?;
        }
        Ok(())
    }

    fn end_block_frame(&mut self, bytes: &mut InPlace<'_>) -> Result<(), ConnectionError> {
        self.state = State::next_frame();
        let Some(block) = &mut self.block else {
            return Ok(());
        };
        if block.continuations == 0 {
            block.remove_padding().ok_or(ConnectionError::Protocol)?;
        }
        if block.is_last
            && let Some(block) = self.block.take()
        {
            self.end_block(&block, bytes)?;
        }
        Ok(())
    }

    fn end_block(&mut self, block: &Block, bytes: &mut InPlace<'_>) -> Result<(), ConnectionError> {
        let lines = self.decoder.decode(&block.bytes, self.max_block);
        let lines = lines.map_err(|error| match error {
            HpackError::Malformed => ConnectionError::Compression,
            HpackError::TooLarge => ConnectionError::Excess,
        })?;
        let mut substitute = Vec::with_capacity(FRAME_HEAD + TYPICAL_SUBSTITUTE);
        substitute.extend_from_slice(&[0; FRAME_HEAD]);
        substitute.extend(block.priority.iter().flatten());
        if block.stream > self.last_stream {
            self.last_stream = block.stream;
            substitute.extend_from_slice(REQUEST);
            put_length(&lines, &mut substitute);
            self.heads.push_back((block.stream, lines));
            if self.waiting_memory() > MAX_HEADS_MEMORY {
                return Err(ConnectionError::Excess);
            }
        } else {
            match check_trailers(&lines) {
                Ok(()) => {}
                Err(TrailersError::Malformed) => substitute.extend_from_slice(MALFORMED),
                Err(TrailersError::TooLarge) => substitute.extend_from_slice(TOO_LARGE),
            }
        }
        // A substitute is shorter than a frame may be.
        let length = u8::try_from(substitute.len() - FRAME_HEAD).unwrap_or(u8::MAX);
        let flags = block.flags & (END_STREAM | PRIORITY) | END_HEADERS;
        let [a, b, c, d] = block.stream.to_be_bytes();
        if let Some(head) = substitute.first_chunk_mut::<FRAME_HEAD>() {
            *head = [0, 0, length, HEADERS, flags, a, b, c, d];
        }
        bytes.put(&substitute);
        Ok(())
    }
}

impl State {
    fn next_frame() -> Self {
        Self::FrameHead([0; FRAME_HEAD], 0)
    }
}

impl Block {
    /// Takes padding and priority out of the payload of HEADERS, RFC 9113 §6.2. Returns `None` if it is too short.
    fn remove_padding(&mut self) -> Option<()> {
        let mut start = 0;
        if self.flags & PADDED != 0 {
            start = 1;
            let padding = usize::from(*self.bytes.first()?);
            let end = self.bytes.len().checked_sub(padding)?;
            // The length of the padding is not part of it.
            self.bytes.truncate(end.max(1));
            (end >= 1).then_some(())?;
        }
        if self.flags & PRIORITY != 0 {
            let priority = self.bytes.get(start..)?.first_chunk::<PRIORITY_LENGTH>()?;
            self.priority = Some(*priority);
            start += PRIORITY_LENGTH;
        }
        self.bytes.drain(..start);
        Some(())
    }
}

/// Returns the error of a trailer section, from the names of the fields that its substitute has.
pub(crate) fn trailers_error<'a>(
    mut names: impl Iterator<Item = &'a str>,
) -> Option<TrailersError> {
    Some(match names.next()? {
        "too-large" => TrailersError::TooLarge,
        _ => TrailersError::Malformed,
    })
}

/// Appends the length that the request declares, if it is valid, because the crate compares it with the body.
fn put_length(lines: &FieldLines, substitute: &mut Vec<u8>) {
    let mut lengths = lines.iter().filter(|(name, _)| *name == b"content-length");
    let (Some(length), None) = (lengths.next(), lengths.next()) else {
        return;
    };
    if let Ok(Length::Exact(length)) = Framing::of(&[length]).request_length(Version::Http11) {
        // No body is as long as what the crate cannot read.
        let digits = length.min(MAX_LENGTH).to_string();
        substitute.extend_from_slice(CONTENT_LENGTH);
        substitute.extend(u8::try_from(digits.len()));
        substitute.extend_from_slice(digits.as_bytes());
    }
}

/// Bytes that are replaced in place by fewer bytes. What does not fit goes to `overflow`, and all after it.
struct InPlace<'a> {
    bytes: &'a mut [u8],
    read: usize,
    written: usize,
    overflow: Vec<u8>,
}

impl InPlace<'_> {
    fn is_empty(&self) -> bool {
        self.read == self.bytes.len()
    }

    /// Passes up to `max` bytes on. Returns how many.
    fn keep(&mut self, max: usize) -> usize {
        let count = max.min(self.bytes.len() - self.read);
        let kept = self.read..self.read + count;
        if self.overflow.is_empty() {
            if self.written < self.read {
                self.bytes.copy_within(kept, self.written);
            }
            self.written += count;
        } else {
            self.overflow
                .extend_from_slice(self.bytes.get(kept).unwrap_or_default());
        }
        self.read += count;
        count
    }

    /// Takes up to `max` bytes out.
    fn take(&mut self, max: usize) -> &[u8] {
        let start = self.read;
        self.read += max.min(self.bytes.len() - start);
        self.bytes.get(start..self.read).unwrap_or_default()
    }

    /// Puts bytes in.
    fn put(&mut self, more: &[u8]) {
        let end = self.written + more.len();
        match self.bytes.get_mut(self.written..end.min(self.read)) {
            Some(free) if self.overflow.is_empty() && free.len() == more.len() => {
                free.copy_from_slice(more);
                self.written = end;
            }
            _ => self.overflow.extend_from_slice(more),
        }
    }
}

/// Types of frames, RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

/// Flags of HEADERS, RFC 9113 §6.2.
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

const FRAME_HEAD: usize = 9;
const PRIORITY_LENGTH: usize = 5;
const STREAM_ID: u32 = 0x7fff_ffff;

/// Length of the connection preface, RFC 9113 §3.4. The `h2` crate checks it.
const PREFACE_LENGTH: usize = 24;

/// Maximum length of a frame, RFC 9113 §4.2. This server announces no other.
const MAX_FRAME: usize = 16_384;

/// How many CONTINUATION frames a block may have, in addition to those that its size needs.
const MAX_CONTINUATIONS: usize = 16;

/// `:method: GET`, `:scheme: http` and `:path: /`, from the static table.
const REQUEST: &[u8] = &[0x82, 0x86, 0x84];

/// The start of a `content-length` without indexing, RFC 7541 §6.2.2: index 28 of the static table.
const CONTENT_LENGTH: &[u8] = &[0x0f, 13];

/// What the substitute of a trailer section that is not accepted has: a field with this name and no value.
const MALFORMED: &[u8] = b"\0\x09malformed\0";
const TOO_LARGE: &[u8] = b"\0\x09too-large\0";

/// The largest content-length that the `h2` crate reads: 19 digits.
const MAX_LENGTH: u64 = 9_999_999_999_999_999_999;

const TYPICAL_SUBSTITUTE: usize = 16;

/// How much may be passed on before the requests are taken.
const MAX_WAITING_HEADS: usize = 32;
const MAX_WAITING_DATA: usize = 256;
const MAX_WAITING_MEMORY: usize = 512 * 1024;

/// How much the heads of one read may take. The dynamic table has 4 kB, so a head that refers to each line once takes a few
/// more, and those of all streams that a client may open fit.
const MAX_HEADS_MEMORY: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BLOCK: usize = 2000;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        [head.as_slice(), payload].concat()
    }

    /// A substitute of a request.
    fn substitute(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
        frame(HEADERS, flags | END_HEADERS, stream, block)
    }

    /// Processes the frames after a preface, in pieces of `size` bytes. Returns what is passed on after the preface.
    fn pass(frames: &mut RequestFrames, sent: &[u8], size: usize) -> Vec<u8> {
        let sent = [&[b'-'; PREFACE_LENGTH], sent].concat();
        let mut passed = Vec::new();
        for piece in sent.chunks(size) {
            let mut piece = piece.to_vec();
            let kept = frames.process(&mut piece);
            passed.extend_from_slice(&piece[..kept]);
            while frames.take_overflow(7, |bytes| passed.extend_from_slice(bytes)) {}
        }
        passed.split_off(PREFACE_LENGTH)
    }

    #[track_caller]
    fn check(sent: &[Vec<u8>], want: &[Vec<u8>], heads: &[(u32, &str)]) {
        for size in [1, 2, 3, 8, 10, 13, 100, 100_000] {
            let mut frames = RequestFrames::new(MAX_BLOCK);
            let passed = pass(&mut frames, &sent.concat(), size);
            assert_eq!(frames.error(), None);
            assert_eq!(passed, want.concat(), "in pieces of {size}");
            for (stream, path) in heads {
                let lines = frames.take_head(*stream).expect("a head");
                let last = lines.iter().last().expect("a line");
                assert_eq!(last, (&b":path"[..], path.as_bytes()));
            }
        }
    }

    #[track_caller]
    fn check_error(sent: &[Vec<u8>], want: ConnectionError) {
        for size in [1, 9, 10_000] {
            let mut frames = RequestFrames::new(MAX_BLOCK);
            pass(&mut frames, &sent.concat(), size);
            assert_eq!(frames.error(), Some(want));
        }
    }

    /// A head with this path as a literal.
    fn head(path: &str) -> Vec<u8> {
        let length = u8::try_from(path.len()).unwrap();
        [&[0x82, 0x86, 0x04, length], path.as_bytes()].concat()
    }

    #[test]
    fn blocks_are_replaced_and_all_else_passes() {
        let settings = frame(4, 0, 0, &[]);
        let data = frame(DATA, 0, 1, b"some data");
        let unknown = frame(77, 3, 9, b"x");
        check(
            &[
                settings.clone(),
                frame(HEADERS, END_HEADERS, 1, &head("/\"<>#\u{e9}")),
                data.clone(),
                frame(HEADERS, END_HEADERS | END_STREAM, 3, &head("/b")),
                unknown.clone(),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x01a\x01b"),
            ],
            &[
                settings,
                substitute(0, 1, REQUEST),
                data,
                substitute(END_STREAM, 3, REQUEST),
                unknown,
                substitute(END_STREAM, 1, b""),
            ],
            &[(1, "/\"<>#\u{e9}"), (3, "/b")],
        );
    }

    #[test]
    fn a_block_may_have_padding_priority_and_continuations() {
        let block = head("/a");
        let (first, second) = block.split_at(2);
        let priority = [0, 0, 0, 5, 7];
        let padded = [&[3][..], &priority, first, &[0; 3]].concat();
        check(
            &[
                frame(HEADERS, PADDED | PRIORITY | END_STREAM, 1, &padded),
                frame(CONTINUATION, 0, 1, &[]),
                frame(CONTINUATION, 0, 1, &second[..1]),
                frame(CONTINUATION, END_HEADERS, 1, &second[1..]),
            ],
            &[substitute(
                END_STREAM | PRIORITY,
                1,
                &[&priority, REQUEST].concat(),
            )],
            &[(1, "/a")],
        );
    }

    #[test]
    fn a_block_is_unfinished_until_its_last_frame() {
        let mut frames = RequestFrames::new(MAX_BLOCK);
        assert_eq!(pass(&mut frames, &[], 1), b"");
        let block = head("/a");
        let (first, second) = block.split_at(2);
        for (mut sent, want) in [
            (frame(HEADERS, END_HEADERS, 1, &block), None),
            (frame(DATA, 0, 1, b"x"), None),
            (frame(HEADERS, 0, 3, &[]), Some(2)),
            (frame(CONTINUATION, 0, 3, first), Some(2)),
            (frame(CONTINUATION, END_HEADERS, 3, second), None),
            (frame(HEADERS, 0, 5, first), Some(3)),
        ] {
            frames.process(&mut sent);
            assert_eq!(frames.error(), None);
            assert_eq!(frames.unfinished_block(), want, "after {sent:?}");
        }
    }

    #[test]
    fn a_valid_length_is_passed_on() {
        for (length, passed) in [
            ("0", Some("0")),
            ("12", Some("12")),
            ("0000000000000000000000012", Some("12")),
            ("18446744073709551615", Some("9999999999999999999")),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("1, 1", None),
        ] {
            let field = |length: &str| {
                let count = u8::try_from(length.len()).unwrap();
                [CONTENT_LENGTH, &[count], length.as_bytes()].concat()
            };
            let sent = field(length);
            let block = [&sent, &head("/")[..]].concat();
            let want = [REQUEST, &passed.map(field).unwrap_or_default()].concat();
            check(
                &[frame(HEADERS, END_HEADERS, 1, &block)],
                &[substitute(0, 1, &want)],
                &[(1, "/")],
            );
            let twice = [&sent, &sent, &head("/")[..]].concat();
            check(
                &[frame(HEADERS, END_HEADERS, 1, &twice)],
                &[substitute(0, 1, REQUEST)],
                &[(1, "/")],
            );
        }
    }

    #[test]
    fn trailers_are_checked() {
        let large = [b"\0\x01x\x7f\x81\x0f", &[b'y'; 2048][..]].concat();
        let huge = [&large[..], &large].concat();
        for (block, want) in [
            (&b""[..], &b""[..]),
            (b"\0\x01x\x01y", b""),
            (b"\0\x03x\"y\x01y", MALFORMED),
            (b"\0\x01X\x01y", MALFORMED),
            (b"\0\x01x\x02 y", MALFORMED),
            (b"\0\x01x\x01\n", MALFORMED),
            (b"\0\0\x01y", MALFORMED),
            (b"\x84", MALFORMED),
            (&large, TOO_LARGE),
            (&huge, TOO_LARGE),
        ] {
            check(
                &[
                    frame(HEADERS, END_HEADERS, 1, &head("/")),
                    frame(HEADERS, END_HEADERS | END_STREAM, 1, block),
                ],
                &[substitute(0, 1, REQUEST), substitute(END_STREAM, 1, want)],
                &[(1, "/")],
            );
        }
        let names = |block: &'static [u8]| {
            let name = block
                .get(2..11)
                .and_then(|name| std::str::from_utf8(name).ok());
            trailers_error(name.into_iter())
        };
        assert_eq!(names(MALFORMED), Some(TrailersError::Malformed));
        assert_eq!(names(TOO_LARGE), Some(TrailersError::TooLarge));
        assert_eq!(names(b""), None);
    }

    #[test]
    fn errors_of_the_connection() {
        use ConnectionError::{Compression, Excess, FrameSize, Protocol};
        let whole = frame(HEADERS, END_HEADERS, 1, &head("/"));
        let open = frame(HEADERS, 0, 1, &[]);
        let empty = frame(CONTINUATION, 0, 1, &[]);
        for (sent, want) in [
            (vec![frame(HEADERS, END_HEADERS, 0, &head("/"))], Protocol),
            (vec![frame(HEADERS, END_HEADERS, 1, &[0x80])], Compression),
            (vec![frame(HEADERS, END_HEADERS, 1, &[0x00])], Compression),
            (vec![whole.clone(), empty.clone()], Protocol),
            (vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 5])], Protocol),
            (vec![open.clone(), frame(DATA, 0, 1, b"x")], Protocol),
            (vec![open.clone(), whole], Protocol),
            (vec![open.clone(), frame(CONTINUATION, 4, 3, &[])], Protocol),
            (vec![open.clone(), frame(4, 0, 0, &[])], Protocol),
            (vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[])], Protocol),
            (
                vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[1])],
                Protocol,
            ),
            (
                vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0])],
                Protocol,
            ),
            (
                vec![frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4])],
                Protocol,
            ),
            (
                vec![frame(
                    HEADERS,
                    END_HEADERS | PRIORITY | PADDED,
                    1,
                    &[1, 0, 0, 0, 0, 0],
                )],
                Protocol,
            ),
            (
                vec![frame(HEADERS, END_HEADERS, 1, &[0; MAX_FRAME + 1])],
                FrameSize,
            ),
            ([vec![open.clone()], vec![empty; 100]].concat(), Excess),
            (vec![open, frame(CONTINUATION, 0, 1, &[0x82; 9000])], Excess),
            (vec![frame(HEADERS, END_HEADERS, 1, &[0x82; 9000])], Excess),
        ] {
            check_error(&sent, want);
        }
    }

    #[test]
    fn heads_of_refused_streams_are_dropped() {
        let sent: Vec<Vec<u8>> = (0..6)
            .map(|number| frame(HEADERS, END_HEADERS, 2 * number + 1, &head("/")))
            .collect();
        let mut frames = RequestFrames::new(MAX_BLOCK);
        pass(&mut frames, &sent.concat(), 100_000);
        assert!(frames.take_head(1).is_some());
        assert!(frames.take_head(5).is_some(), "3 was refused");
        assert!(frames.take_head(5).is_none());
        assert!(frames.take_head(3).is_none());
        assert!(frames.take_head(8).is_none());
        assert!(frames.take_head(9).is_some());
        frames.resume_if_taken();
        assert!(frames.take_head(11).is_none());
    }

    #[test]
    fn reading_pauses_until_the_requests_are_taken() {
        for (kind, payload, count) in [
            (HEADERS, head("/"), MAX_WAITING_HEADS),
            (DATA, b"x".to_vec(), MAX_WAITING_DATA),
        ] {
            let mut frames = RequestFrames::new(MAX_BLOCK);
            let sent: Vec<Vec<u8>> = (1..)
                .take(count)
                .map(|stream| frame(kind, END_HEADERS, stream, &payload))
                .collect();
            let (last, others) = sent.split_last().unwrap();
            pass(&mut frames, &others.concat(), 1000);
            assert!(!frames.must_pause());
            frames.process(&mut last.clone());
            assert!(frames.must_pause());
            frames.set_read(false);
            frames.resume_if_taken();
            assert!(frames.must_pause(), "the crate has not read them");
            frames.set_read(true);
            frames.resume_if_taken();
            assert!(!frames.must_pause());
        }
    }

    mod with_the_encoder_of_h2 {
        use http::{HeaderName, HeaderValue, Method, Request};
        use proptest::prelude::*;
        use tokio::io::AsyncReadExt as _;

        use super::*;

        fn requests() -> impl Strategy<Value = Vec<Request<()>>> {
            let name = "[a-z0-9!#$%&'*+.^_`|~-]{1,20}";
            let value = proptest::collection::vec(prop_oneof![b' '..=b'~', 0x80..=0xffu8], 0..60);
            let field = (
                prop_oneof![name, Just("cookie".to_owned()), Just("accept".to_owned())],
                value,
            );
            let fields = proptest::collection::vec(field, 0..12);
            let request = ("[A-Z]{1,9}", "/[a-z/?=&.]{0,40}", fields);
            let request = request.prop_map(|(method, path, fields)| {
                let mut request = Request::builder()
                    .method(Method::from_bytes(method.as_bytes()).unwrap())
                    .uri(format!("https://app.example{path}"))
                    .body(())
                    .unwrap();
                for (name, value) in fields {
                    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                    let value = HeaderValue::from_bytes(&value).unwrap();
                    if !matches!(name.as_str(), "te" | "upgrade" | "connection" | "host") {
                        request.headers_mut().append(name, value);
                    }
                }
                request
            });
            proptest::collection::vec(request, 1..20)
        }

        /// Returns what a client of h2 sends for these requests.
        async fn encode(requests: &[Request<()>]) -> Vec<u8> {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            let handshake = h2::client::handshake(near).await;
            let (mut sender, connection) = handshake.expect("a handshake");
            let mut responses = Vec::new();
            for request in requests {
                sender = sender.ready().await.expect("ready");
                let sent = sender.send_request(request.clone(), true);
                responses.push(sent.expect("the request is sent"));
            }
            let mut frames = RequestFrames::new(1 << 20);
            let mut sent = Vec::new();
            let receive = async {
                while frames.heads.len() < requests.len() {
                    let mut piece = vec![0; 10_000];
                    let count = far.read(&mut piece).await.expect("what was sent");
                    piece.truncate(count);
                    sent.extend_from_slice(&piece);
                    frames.process(&mut piece);
                    while frames.take_overflow(usize::MAX, |_| {}) {}
                }
            };
            tokio::select! {
                ended = connection => panic!("{ended:?}"),
                () = receive => {}
            }
            sent
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            #[test]
            fn decoded_heads_are_those_that_were_sent(requests in requests(), size in 1usize..4000) {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let sent = runtime.expect("a runtime").block_on(encode(&requests));
                let mut frames = RequestFrames::new(1 << 20);
                for piece in sent.chunks(size) {
                    frames.process(&mut piece.to_vec());
                    while frames.take_overflow(9, |_| {}) {}
                }
                prop_assert_eq!(frames.error(), None);
                prop_assert_eq!(frames.heads.len(), requests.len());
                for (number, request) in (0u32..).zip(&requests) {
                    let lines = frames.take_head(2 * number + 1).expect("a head");
                    let path = request.uri().path_and_query().expect("a path").as_str();
                    let mut want = vec![
                        (&b":method"[..], request.method().as_str().as_bytes()),
                        (b":scheme", b"https"),
                        (b":authority", b"app.example"),
                        (b":path", path.as_bytes()),
                    ];
                    let fields = request.headers().iter();
                    want.extend(fields.map(|(name, value)| {
                        (name.as_str().as_bytes(), value.as_bytes())
                    }));
                    prop_assert_eq!(lines.iter().collect::<Vec<_>>(), want);
                }
            }
        }
    }
}
