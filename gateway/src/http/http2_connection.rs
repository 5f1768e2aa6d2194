//! Speaks HTTP/2 with one client, RFC 9113, as a state machine: bytes in, requests and bytes out.
//!
//! It reads and writes no socket. [`Connection::receive`] takes the bytes of the client, [`Connection::next_request`] returns
//! the requests in them, the functions that have the number of a stream receive and send its content, and
//! [`Connection::output`] returns what is to be written. A function that has to wait keeps the task of its stream and wakes
//! it later.
//!
//! # Limits
//!
//! The input is untrusted, so everything that a client can cause is bounded. Memory: by the flow-control windows, by the size
//! of header blocks, by the heads that wait for a task, and by the bytes that wait to be written. Streams: a stream counts until
//! its task has ended, even if it was reset. Work for nothing: streams that are reset, by the client or for what it has sent,
//! and DATA frames without data are counted ([`Budget`]).
//!
//! # Why not the h2 crate
//!
//! h2 0.4.20 makes an `http::Request` of each header block, and has no option to see it before. So targets with `"`, `<` or
//! octets above ASCII are reset before the policy can judge them, and a fragment is cut off silently; an invalid value ends
//! the whole connection; field names with `"` pass; the order of fields is lost. HTTP/1.1 has other rules, so a request
//! would depend on the version that carries it. With a reader in front that gave the crate a substitute for each block, a GET
//! cost 84 800 instructions, and costs 55 000 without the crate.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::http::framing::{Framing, Length};
use crate::http::head::Version;
use crate::http::hpack::{Decoder, FieldLines, HpackError};
use crate::http::hpack_encoder::Encoder;
use crate::http::http2_block::{Block, PRIORITY_LENGTH, fragment, without_padding};
use crate::http::http2_frame::{
    ACK, CONTINUATION, DATA, DEFAULT_WINDOW, ENABLE_CONNECT_PROTOCOL, ENABLE_PUSH, END_HEADERS,
    END_STREAM, ErrorCode, FRAME_HEAD, FrameHead, GOAWAY, HEADER_TABLE_SIZE, HEADERS,
    INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE,
    MAX_STREAM_ID, MAX_WINDOW, PING, PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};
use crate::http::http2_head::{TrailersError, check_trailers};
use crate::http::http2_output::{BlockOf, Output};
use crate::http::http2_streams::{Sending, Stream, Streams};

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stage: Stage,
    /// The block whose frames are arriving.
    block: Option<Block>,
    /// True if the first bytes of a HEADERS or CONTINUATION frame have arrived.
    has_partial_block: bool,
    /// The number of blocks that have ended.
    blocks: u64,
    max_block: usize,
    decoder: Decoder,
    encoder: Encoder,
    /// The highest stream that the client has opened, and the highest one whose request was not ignored.
    last_stream: u32,
    last_request: u32,
    streams: Streams,
    /// Requests that were not taken, in order.
    requests: VecDeque<Request>,
    budget: Budget,
    /// How many bytes the client may send on all streams.
    receive_window: i64,
    /// How many bytes were taken that the client has not been told of.
    released: u32,
    /// How many bytes the client accepts on all streams, and on a new one.
    send_window: i64,
    initial_send_window: i64,
    output: Output,
    /// Streams that wait to send data, until there is room in `output` and in the window of the connection, in order.
    waiting: VecDeque<u32>,
    /// Streams that wait to send a head or their end, until there is room in `output`.
    waiting_for_room: Vec<u32>,
    drain: Drain,
    error: Option<ErrorCode>,
    /// True once nothing is sent or received any more.
    is_closed: bool,
    /// The task that reads and writes the connection.
    task: Option<Waker>,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) stream: u32,
    pub(crate) lines: FieldLines,
    /// True if there is no content.
    pub(crate) has_ended: bool,
}

/// The stream was reset, or the connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream was reset")]
pub(crate) struct Reset;

/// What has arrived of the content of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Data(Vec<u8>),
    End(Result<(), TrailersError>),
}

/// What a client sends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preface,
    Settings,
    Frames,
}

/// How far the drain of the connection is, RFC 9113 §6.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    /// The client was told, but may have opened streams before it knew.
    Announced,
    /// New streams are ignored.
    Final,
}

impl Connection {
    /// `max_block`: limit of a header block in bytes, as RFC 9113 §10.5.1 counts them. A larger one is rejected.
    pub(crate) fn new(max_block: usize) -> Self {
        let mut output = Output::default();
        let max_list = u32::try_from(max_block).unwrap_or(u32::MAX);
        let mut settings = Vec::new();
        for (setting, value) in [
            (MAX_CONCURRENT_STREAMS, MAX_STREAMS),
            (INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (MAX_HEADER_LIST_SIZE, max_list),
            (ENABLE_CONNECT_PROTOCOL, 1),
        ] {
            settings.extend_from_slice(&setting.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        output.control(SETTINGS, 0, &settings);
        let more = CONNECTION_WINDOW - DEFAULT_WINDOW;
        output.control(WINDOW_UPDATE, 0, &more.to_be_bytes());
        Self {
            stage: Stage::Preface,
            block: None,
            has_partial_block: false,
            blocks: 0,
            max_block,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            last_stream: 0,
            last_request: 0,
            streams: Streams::default(),
            requests: VecDeque::new(),
            budget: Budget::new(),
            receive_window: CONNECTION_WINDOW.into(),
            released: 0,
            send_window: DEFAULT_WINDOW.into(),
            initial_send_window: DEFAULT_WINDOW.into(),
            output,
            waiting: VecDeque::new(),
            waiting_for_room: Vec::new(),
            drain: Drain::No,
            error: None,
            is_closed: false,
            task: None,
        }
    }

    // The connection.

    /// Processes the frames at the front of `bytes`. Returns how many bytes were processed. The others are passed again,
    /// with what follows them: a frame that has not arrived as a whole, or what has to wait until requests are taken.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while self.error.is_none() && !self.must_pause() {
            match self.receive_next(rest) {
                Ok(Some(after)) => rest = after,
                Ok(None) => break,
                Err(error) => self.fail(error),
            }
        }
        bytes.len() - rest.len()
    }

    /// Returns true if nothing more should be read now.
    pub(crate) fn must_pause(&self) -> bool {
        self.requests.len() >= MAX_REQUESTS
            || self.waiting_memory() >= MAX_WAITING_HEADS
            || self.output.is_flooded()
    }

    /// Returns the next request. Its stream is open until [`Connection::close`].
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// Returns the number of the block that the client must end in time; `None` if it need not send anything.
    pub(crate) fn awaited_block(&self) -> Option<u64> {
        let is_awaited =
            self.block.is_some() || self.has_partial_block || self.stage != Stage::Frames;
        is_awaited.then_some(self.blocks)
    }

    /// Returns what is to be written.
    pub(crate) fn output(&self) -> &[u8] {
        self.output.bytes()
    }

    /// Records that `count` bytes of the output were written.
    pub(crate) fn written(&mut self, count: usize) {
        self.output.consume(count);
        self.wake_next();
    }

    /// Frees memory that an idle connection does not need.
    pub(crate) fn shrink(&mut self) {
        self.output.shrink();
    }

    /// Keeps the task that reads and writes the connection, to be woken when a stream has something for it.
    pub(crate) fn wait(&mut self, context: &Context<'_>) {
        self.task = Some(context.waker().clone());
    }

    /// Returns true if a stream is open or a request was not taken.
    pub(crate) fn has_streams(&self) -> bool {
        self.streams.len() > 0
    }

    /// Returns the error for which the connection ends. The output contains the last frame.
    pub(crate) fn error(&self) -> Option<ErrorCode> {
        self.error
    }

    /// Tells the client to open no more streams.
    pub(crate) fn drain(&mut self) {
        if self.drain == Drain::No {
            self.drain = Drain::Announced;
            self.put_goaway(MAX_STREAM_ID, ErrorCode::None);
            // Its acknowledgment says that all has arrived that the client has sent before it knew.
            self.output.control(PING, 0, DRAIN_PING);
        }
    }

    /// Returns true if the drain has ended: no stream is open, and all was written.
    pub(crate) fn is_done(&self) -> bool {
        self.drain == Drain::Final && !self.has_streams() && self.output().is_empty()
    }

    /// Ends the connection with an error, or with [`ErrorCode::None`].
    pub(crate) fn fail(&mut self, error: ErrorCode) {
        self.put_goaway(self.last_request, error);
        self.error = Some(error);
        self.drain = Drain::Final;
        self.requests.clear();
        self.end_streams();
    }

    /// Records that the connection has ended.
    pub(crate) fn end(&mut self) {
        self.is_closed = true;
        self.end_streams();
    }

    // The streams.

    /// Returns what has arrived of the content of a request. What was returned before counts as passed on, so the client may
    /// send as much again.
    pub(crate) fn poll_received(
        &mut self,
        id: u32,
        context: &Context<'_>,
    ) -> Poll<Result<Received, Reset>> {
        let taken = self
            .streams
            .get(id)
            .map(|stream| std::mem::take(&mut stream.taken));
        if let Some(taken @ 1..) = taken {
            self.release(id, taken);
        }
        let Some(stream) = self.streams.get(id).filter(|stream| !stream.is_reset) else {
            return Poll::Ready(Err(Reset));
        };
        if !stream.received.is_empty() {
            let data = std::mem::take(&mut stream.received);
            stream.taken = length_of(&data);
            return Poll::Ready(Ok(Received::Data(data)));
        }
        if stream.has_ended {
            return Poll::Ready(Ok(Received::End(stream.trailers)));
        }
        stream.wait(context);
        Poll::Pending
    }

    /// Returns true if [`Connection::poll_received`] is ready.
    pub(crate) fn has_received(&mut self, id: u32) -> bool {
        let stream = self.streams.get(id);
        stream
            .is_none_or(|stream| stream.is_reset || stream.has_ended || !stream.received.is_empty())
    }

    /// Is ready when the stream was reset or the connection has ended.
    pub(crate) fn poll_reset(&mut self, id: u32, context: &Context<'_>) -> Poll<()> {
        match self.streams.get(id) {
            Some(stream) if !stream.is_reset => {
                stream.wait(context);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Is ready when there is room for the head of a response or for the end of a stream.
    pub(crate) fn poll_room(&mut self, id: u32, context: &Context<'_>) -> Poll<Result<(), Reset>> {
        let Some(stream) = self.streams.get(id).filter(|stream| !stream.is_reset) else {
            return Poll::Ready(Err(Reset));
        };
        if self.output.room() > 0 {
            return Poll::Ready(Ok(()));
        }
        stream.wait(context);
        if !self.waiting_for_room.contains(&id) {
            self.waiting_for_room.push(id);
        }
        Poll::Pending
    }

    /// Sends the head of an informational response.
    pub(crate) fn send_informational(&mut self, id: u32, status: u16, fields: &FieldLines) {
        if self.streams.get(id).is_some_and(|stream| !stream.is_reset) {
            let block = BlockOf::Response(status, fields);
            self.output.block(id, &mut self.encoder, &block, false);
            self.notify();
        }
    }

    /// Sends the head of the response. `ends`: no content follows.
    pub(crate) fn send_head(
        &mut self,
        id: u32,
        status: u16,
        fields: &FieldLines,
        ends: bool,
    ) -> Result<(), Reset> {
        let stream = self.streams.get(id).filter(|stream| !stream.is_reset);
        let stream = stream.ok_or(Reset)?;
        stream.sending = if ends {
            Sending::Ended
        } else {
            Sending::Body(None)
        };
        let block = BlockOf::Response(status, fields);
        self.output.block(id, &mut self.encoder, &block, ends);
        self.notify();
        Ok(())
    }

    /// Sends as much of `data` as there is room for, but at most one frame. Returns how many bytes were sent.
    pub(crate) fn poll_send(
        &mut self,
        id: u32,
        data: &[u8],
        context: &Context<'_>,
    ) -> Poll<Result<usize, Reset>> {
        let can_send = self.can_send();
        let stream = self.streams.get(id).filter(|stream| !stream.is_reset);
        let stream = stream.ok_or(Reset)?;
        let window = stream.send_window.min(self.send_window);
        let window = usize::try_from(window).unwrap_or_default();
        if window == 0 || !can_send {
            stream.wait(context);
            if stream.send_window <= 0 {
                // Another one may be able to.
                self.wake_next();
            } else if !stream.is_waiting {
                stream.is_waiting = true;
                self.waiting.push_back(id);
            }
            return Poll::Pending;
        }
        let count = data.len().min(window).min(MAX_FRAME);
        if std::mem::take(&mut stream.is_waiting) {
            // Its task was woken by something else before its turn, which would be lost on a stream that does not wait.
            self.waiting.retain(|waiting| *waiting != id);
        }
        // Neither can overflow: a window has 31 bits.
        stream.send_window -= i64::try_from(count).unwrap_or_default();
        self.send_window -= i64::try_from(count).unwrap_or_default();
        let now = data.get(..count).unwrap_or_default();
        stream.sending = Sending::Body(Some(self.output.data(id, now, false)));
        self.notify();
        if count == data.len() {
            self.wake_next();
        }
        Poll::Ready(Ok(count))
    }

    /// Ends the response, after its head was sent.
    pub(crate) fn send_end(&mut self, id: u32, trailers: Option<&FieldLines>) -> Result<(), Reset> {
        let stream = self.streams.get(id).filter(|stream| !stream.is_reset);
        let stream = stream.ok_or(Reset)?;
        let sending = std::mem::replace(&mut stream.sending, Sending::Ended);
        match (sending, trailers) {
            (Sending::Ended, _) => return Ok(()),
            (_, Some(trailers)) => {
                let block = BlockOf::Trailers(trailers);
                self.output.block(id, &mut self.encoder, &block, true);
            }
            // A frame of its own costs nine bytes.
            (Sending::Body(Some(place)), None) if self.output.end_at(place) => {}
            (Sending::Head | Sending::Body(_), None) => {
                self.output.data(id, &[], true);
            }
        }
        self.notify();
        Ok(())
    }

    /// Resets a stream.
    pub(crate) fn reset(&mut self, id: u32, error: ErrorCode) {
        if let Some(stream) = self.streams.get(id)
            && !stream.is_reset
        {
            stream.is_reset = true;
            stream.wake();
            self.put_reset(id, error);
            self.notify();
        }
    }

    /// Closes a stream, because its task has ended. If the response is incomplete, the client learns it.
    pub(crate) fn close(&mut self, id: u32) {
        let Some(stream) = self.streams.remove(id) else {
            return;
        };
        self.waiting.retain(|waiting| *waiting != id);
        self.waiting_for_room.retain(|waiting| *waiting != id);
        // What nobody will read must not use up the window of the connection.
        self.release_connection(length_of(&stream.received) + stream.taken);
        if !stream.is_reset && !self.is_over() {
            match (stream.sending, stream.has_ended) {
                (Sending::Ended, true) => {}
                // Only the frame that ends it is missing, and some clients take a reset for a failure.
                (Sending::Ended, false) if stream.missing == Some(0) => {
                    self.streams.remember_ended(id);
                }
                // The client need not send the rest, RFC 9113 §8.1.
                (Sending::Ended, false) => self.put_reset(id, ErrorCode::None),
                (Sending::Head | Sending::Body(_), _) => self.put_reset(id, ErrorCode::Cancel),
            }
        }
        self.wake_next();
        self.notify();
    }

    // Frames that arrive.

    /// Processes the next frame. Returns what is after it; `None` if it has not arrived as a whole.
    fn receive_next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, ErrorCode> {
        if self.stage == Stage::Preface {
            let count = bytes.len().min(PREFACE.len());
            if bytes.get(..count) != PREFACE.get(..count) {
                return Err(ErrorCode::Protocol);
            }
            let after = bytes.get(PREFACE.len()..);
            if after.is_some() {
                self.stage = Stage::Settings;
            }
            return Ok(after);
        }
        self.has_partial_block = false;
        let Some(head) = FrameHead::read(bytes) else {
            return Ok(None);
        };
        if head.length > MAX_FRAME {
            return Err(ErrorCode::FrameSize);
        }
        let is_block = matches!(head.kind, HEADERS | CONTINUATION);
        let payload = bytes.get(FRAME_HEAD..).unwrap_or_default();
        let Some((payload, after)) = payload.split_at_checked(head.length) else {
            self.has_partial_block = is_block;
            return Ok(None);
        };
        if self.stage == Stage::Settings {
            if head.kind != SETTINGS || head.has(ACK) {
                return Err(ErrorCode::Protocol);
            }
            self.stage = Stage::Frames;
        }
        self.receive_frame(head, payload)?;
        Ok(Some(after))
    }

    fn receive_frame(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), ErrorCode> {
        match (&mut self.block, head.kind) {
            (Some(block), CONTINUATION) if block.head.stream == head.stream => {
                if block.append(head, payload, self.max_block)?
                    && let Some(block) = self.block.take()
                {
                    self.end_block(block.head, &block.fragments)?;
                }
                Ok(())
            }
            // Nothing may come between the frames of a block, and a client must not push.
            (Some(_), _) | (None, CONTINUATION | PUSH_PROMISE) => Err(ErrorCode::Protocol),
            (None, DATA) => self.receive_data(head, payload),
            (None, HEADERS) => {
                if head.stream.is_multiple_of(2) {
                    return Err(ErrorCode::Protocol);
                }
                let fragment = fragment(head, payload).ok_or(ErrorCode::Protocol)?;
                if head.has(END_HEADERS) {
                    self.end_block(head, fragment)
                } else {
                    self.block = Some(Block::new(head, fragment));
                    Ok(())
                }
            }
            (None, PRIORITY) => match (head.stream, payload.len()) {
                (0, _) => Err(ErrorCode::Protocol),
                // Not used any more, RFC 9113 §5.3.
                (_, PRIORITY_LENGTH) => Ok(()),
                _ => Err(ErrorCode::FrameSize),
            },
            (None, RST_STREAM) => self.receive_reset(head, payload),
            (None, SETTINGS) => self.receive_settings(head, payload),
            (None, PING) => self.receive_ping(head, payload),
            // The client opens no more streams; those that are open continue.
            (None, GOAWAY) => match (head.stream, payload.len()) {
                (0, 8..) => Ok(()),
                (0, _) => Err(ErrorCode::FrameSize),
                _ => Err(ErrorCode::Protocol),
            },
            (None, WINDOW_UPDATE) => self.receive_window_update(head, payload),
            // RFC 9113 §5.5.
            (None, _) => Ok(()),
        }
    }

    /// RFC 9113 §6.1.
    fn receive_data(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), ErrorCode> {
        let id = head.stream;
        if self.is_idle(id) {
            return Err(ErrorCode::Protocol);
        }
        let data = without_padding(head, payload).ok_or(ErrorCode::Protocol)?;
        let size = length_of(payload);
        self.receive_window -= i64::from(size);
        if self.receive_window < 0 {
            return Err(ErrorCode::FlowControl);
        }
        if data.is_empty() && !head.has(END_STREAM) {
            self.budget.spend()?;
        }
        let Some(stream) = self.streams.get(id) else {
            self.release_connection(size);
            let has_ended_early = self.streams.has_ended_early(id) || self.drain == Drain::Final;
            return has_ended_early.then_some(()).ok_or(ErrorCode::StreamClosed);
        };
        if stream.is_reset {
            self.release_connection(size);
            return Ok(());
        }
        if stream.has_ended {
            self.release_connection(size);
            return self.reject(id, ErrorCode::StreamClosed);
        }
        stream.receive_window -= i64::from(size);
        if stream.receive_window < 0 {
            self.release_connection(size);
            return self.reject(id, ErrorCode::FlowControl);
        }
        if let Some(missing) = &mut stream.missing {
            let Some(still) = missing.checked_sub(data.len() as u64) else {
                self.release_connection(size);
                return self.reject(id, ErrorCode::Protocol);
            };
            *missing = still;
        }
        stream.received.extend_from_slice(data);
        stream.wake();
        // Padding is not passed on.
        match size - length_of(data) {
            0 => {}
            padding => self.release(id, padding),
        }
        if head.has(END_STREAM) {
            self.end_content(id)?;
        }
        Ok(())
    }

    /// Ends the content of a request, whose length must be what it declares, RFC 9113 §8.1.1.
    fn end_content(&mut self, id: u32) -> Result<(), ErrorCode> {
        let Some(stream) = self.streams.get(id) else {
            return Ok(());
        };
        if stream.missing.is_some_and(|missing| missing > 0) {
            return self.reject(id, ErrorCode::Protocol);
        }
        stream.has_ended = true;
        stream.wake();
        Ok(())
    }

    /// Processes a header block. `head`: that of its HEADERS frame.
    fn end_block(&mut self, head: FrameHead, block: &[u8]) -> Result<(), ErrorCode> {
        self.blocks += 1;
        let lines = self.decoder.decode(block, self.max_block);
        let lines = lines.map_err(|error| match error {
            HpackError::Malformed => ErrorCode::Compression,
            HpackError::TooLarge => ErrorCode::EnhanceYourCalm,
        })?;
        if self.is_idle(head.stream) {
            self.last_stream = head.stream;
            self.open(head, lines)
        } else {
            self.receive_trailers(head, &lines)
        }
    }

    /// Opens a stream.
    fn open(&mut self, head: FrameHead, lines: FieldLines) -> Result<(), ErrorCode> {
        let id = head.stream;
        if self.drain == Drain::Final {
            return Ok(());
        }
        self.last_request = id;
        if self.streams.len() >= MAX_STREAMS as usize {
            self.put_reset(id, ErrorCode::RefusedStream);
            return self.budget.spend();
        }
        let has_ended = head.has(END_STREAM);
        let missing = declared_length(&lines);
        if has_ended && missing.is_some_and(|missing| missing > 0) {
            self.put_reset(id, ErrorCode::Protocol);
            return self.budget.spend();
        }
        let mut stream = Stream::new(id, STREAM_WINDOW.into(), self.initial_send_window);
        stream.has_ended = has_ended;
        stream.missing = missing;
        self.streams.push(stream);
        self.requests.push_back(Request {
            stream: id,
            lines,
            has_ended,
        });
        Ok(())
    }

    /// RFC 9113 §8.1.
    fn receive_trailers(&mut self, head: FrameHead, lines: &FieldLines) -> Result<(), ErrorCode> {
        let id = head.stream;
        let Some(stream) = self.streams.get(id) else {
            let has_ended_early = self.streams.has_ended_early(id) || self.drain == Drain::Final;
            return has_ended_early.then_some(()).ok_or(ErrorCode::StreamClosed);
        };
        if stream.is_reset {
            return Ok(());
        }
        if stream.has_ended {
            self.reject(id, ErrorCode::StreamClosed)
        } else if !head.has(END_STREAM) {
            self.reject(id, ErrorCode::Protocol)
        } else {
            stream.trailers = check_trailers(lines);
            self.end_content(id)
        }
    }

    /// RFC 9113 §6.4.
    fn receive_reset(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), ErrorCode> {
        if self.is_idle(head.stream) {
            return Err(ErrorCode::Protocol);
        }
        if payload.len() != 4 {
            return Err(ErrorCode::FrameSize);
        }
        if let Some(stream) = self.streams.get(head.stream)
            && !stream.is_reset
        {
            stream.is_reset = true;
            stream.wake();
            if stream.sending != Sending::Ended {
                return self.budget.spend();
            }
        }
        Ok(())
    }

    /// RFC 9113 §6.5.
    fn receive_settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), ErrorCode> {
        if head.stream != 0 {
            return Err(ErrorCode::Protocol);
        }
        if head.has(ACK) {
            return payload.is_empty().then_some(()).ok_or(ErrorCode::FrameSize);
        }
        let (settings, []) = payload.as_chunks::<6>() else {
            return Err(ErrorCode::FrameSize);
        };
        if settings.len() > MAX_SETTINGS {
            return Err(ErrorCode::EnhanceYourCalm);
        }
        for [high, low, a, b, c, d] in settings {
            let value = u32::from_be_bytes([*a, *b, *c, *d]);
            self.apply(u16::from_be_bytes([*high, *low]), value)?;
        }
        self.output.acknowledge(SETTINGS, &[]);
        Ok(())
    }

    fn apply(&mut self, setting: u16, value: u32) -> Result<(), ErrorCode> {
        match (setting, value) {
            (HEADER_TABLE_SIZE, size) => self.encoder.limit_table(size),
            (INITIAL_WINDOW_SIZE, 0..=MAX_STREAM_ID) => {
                let change = i64::from(value) - self.initial_send_window;
                self.initial_send_window = value.into();
                let mut streams = self.streams.iter_mut();
                if !streams.all(|stream| stream.grow(change)) {
                    return Err(ErrorCode::FlowControl);
                }
            }
            (INITIAL_WINDOW_SIZE, _) => return Err(ErrorCode::FlowControl),
            (ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL, 2..)
            | (MAX_FRAME_SIZE, ..=0x3fff | 0x0100_0000..) => return Err(ErrorCode::Protocol),
            // Larger frames than the usual ones are not sent, and fields are not left out because they are too large.
            _ => {}
        }
        Ok(())
    }

    /// RFC 9113 §6.7.
    fn receive_ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), ErrorCode> {
        if head.stream != 0 {
            return Err(ErrorCode::Protocol);
        }
        if payload.len() != DRAIN_PING.len() {
            return Err(ErrorCode::FrameSize);
        }
        if !head.has(ACK) {
            self.output.acknowledge(PING, payload);
        } else if self.drain == Drain::Announced && payload == DRAIN_PING {
            self.drain = Drain::Final;
            self.put_goaway(self.last_request, ErrorCode::None);
        }
        Ok(())
    }

    /// RFC 9113 §6.9.
    fn receive_window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), ErrorCode> {
        let id = head.stream;
        let Ok(octets) = <[u8; 4]>::try_from(payload) else {
            return Err(ErrorCode::FrameSize);
        };
        let increment = u32::from_be_bytes(octets) & MAX_STREAM_ID;
        if id == 0 {
            if increment == 0 {
                return Err(ErrorCode::Protocol);
            }
            self.send_window += i64::from(increment);
            if self.send_window > MAX_WINDOW {
                return Err(ErrorCode::FlowControl);
            }
            self.wake_next();
            return Ok(());
        }
        if self.is_idle(id) {
            return Err(ErrorCode::Protocol);
        }
        match self.streams.get(id) {
            Some(_) if increment == 0 => self.reject(id, ErrorCode::Protocol),
            Some(stream) => {
                if stream.grow(increment.into()) {
                    return Ok(());
                }
                self.reject(id, ErrorCode::FlowControl)
            }
            None => Ok(()),
        }
    }

    // What the above have in common.

    /// Resets a stream because of what the client has sent on it. That is no cheaper way to cancel requests, CVE-2025-8671.
    fn reject(&mut self, id: u32, error: ErrorCode) -> Result<(), ErrorCode> {
        self.reset(id, error);
        self.budget.spend()
    }

    /// Returns true for a stream that no client has opened. Those with even numbers would be ours.
    fn is_idle(&self, id: u32) -> bool {
        id > self.last_stream || id.is_multiple_of(2)
    }

    /// Returns true if nothing is sent any more on streams.
    fn is_over(&self) -> bool {
        self.is_closed || self.error.is_some()
    }

    fn waiting_memory(&self) -> usize {
        let memory = |request: &Request| request.lines.memory();
        self.requests.iter().map(memory).sum()
    }

    fn put_goaway(&mut self, last_stream: u32, error: ErrorCode) {
        let [a, b, c, d] = last_stream.to_be_bytes();
        let [e, f, g, h] = (error as u32).to_be_bytes();
        self.output.control(GOAWAY, 0, &[a, b, c, d, e, f, g, h]);
        self.notify();
    }

    fn put_reset(&mut self, id: u32, error: ErrorCode) {
        self.streams.remember_ended(id);
        let payload = (error as u32).to_be_bytes();
        self.output.control(RST_STREAM, id, &payload);
    }

    /// Lets the client send `count` bytes more.
    fn release(&mut self, id: u32, count: u32) {
        self.release_connection(count);
        // A client that has sent all needs no more room.
        let stream = self.streams.get(id);
        if let Some(stream) = stream.filter(|stream| !stream.has_ended && !stream.is_reset) {
            stream.released += count;
            if stream.released >= STREAM_WINDOW / 2 {
                let released = std::mem::take(&mut stream.released);
                stream.receive_window += i64::from(released);
                self.output
                    .control(WINDOW_UPDATE, id, &released.to_be_bytes());
            }
        }
        self.notify();
    }

    fn release_connection(&mut self, count: u32) {
        self.released += count;
        if self.released >= CONNECTION_WINDOW / 2 {
            let released = std::mem::take(&mut self.released);
            self.receive_window += i64::from(released);
            let payload = released.to_be_bytes();
            self.output.control(WINDOW_UPDATE, 0, &payload);
        }
    }

    /// Resets all streams without telling the client, because the connection ends.
    fn end_streams(&mut self) {
        for stream in self.streams.iter_mut() {
            stream.is_reset = true;
            stream.wake();
        }
        self.notify();
    }

    /// Wakes the task of the connection, which writes the output.
    fn notify(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Returns true if there is room for a frame of any stream.
    fn can_send(&self) -> bool {
        self.send_window > 0 && self.output.room() >= MAX_FRAME
    }

    /// Wakes the stream that has waited longest, if it can send. It wakes the next one if there is still room after it.
    fn wake_next(&mut self) {
        if self.output.room() >= MAX_FRAME {
            for id in self.waiting_for_room.drain(..) {
                if let Some(stream) = self.streams.get(id) {
                    stream.wake();
                }
            }
        }
        while self.can_send()
            && let Some(id) = self.waiting.pop_front()
        {
            if let Some(stream) = self.streams.get(id) {
                stream.is_waiting = false;
                return stream.wake();
            }
        }
    }
}

impl From<Reset> for io::Error {
    fn from(reset: Reset) -> Self {
        Self::new(io::ErrorKind::BrokenPipe, reset)
    }
}

/// How much work for nothing a client may cause: a bucket of tokens, of which each piece of such work takes one.
#[derive(Debug)]
struct Budget {
    tokens: u32,
    /// When tokens were added last.
    filled: Option<Instant>,
}

impl Budget {
    fn new() -> Self {
        Self {
            tokens: BUDGET,
            filled: None,
        }
    }

    /// Takes a token. Fails if there is none.
    fn spend(&mut self) -> Result<(), ErrorCode> {
        let now = Instant::now();
        let filled = *self.filled.get_or_insert(now);
        let passed = now.saturating_duration_since(filled).as_secs();
        if passed > 0 {
            let more = u32::try_from(passed).unwrap_or(u32::MAX);
            let more = more.saturating_mul(BUDGET_PER_SECOND);
            self.tokens = self.tokens.saturating_add(more).min(BUDGET);
            self.filled = Some(now);
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.ok_or(ErrorCode::EnhanceYourCalm)?;
        Ok(())
    }
}

/// Returns the length of something that the flow-control windows bound.
fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Returns the length that a request declares, if it is valid. What is invalid is rejected later, with a response.
fn declared_length(lines: &FieldLines) -> Option<u64> {
    let mut lengths = lines.iter().filter(|(name, _)| *name == b"content-length");
    let (Some(length), None) = (lengths.next(), lengths.next()) else {
        return None;
    };
    match Framing::of(&[length]).request_length(Version::Http11) {
        Ok(Length::Exact(length)) => Some(length),
        Ok(_) | Err(_) => None,
    }
}

/// Flow-control windows in bytes, RFC 9113 §5.2: how much a client may send ahead on a stream, and on the connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Maximum number of concurrent streams of a connection.
const MAX_STREAMS: u32 = 128;

/// How many requests, and how much memory of their heads, may wait to be taken.
const MAX_REQUESTS: usize = 32;
const MAX_WAITING_HEADS: usize = 256 * 1024;

/// How many settings a frame may have. nghttp2 has the same limit.
const MAX_SETTINGS: usize = 32;

/// How much work for nothing a client may cause at once, and for each second. nghttp2 has the same limits for streams that are
/// reset.
const BUDGET: u32 = 1000;
const BUDGET_PER_SECOND: u32 = 33;

/// The payload of the ping whose acknowledgment makes GOAWAY final.
const DRAIN_PING: &[u8] = b"leaving.";

#[cfg(test)]
mod tests;
