//! Keeps the state of the open streams of an HTTP/2 connection, RFC 9113 §5.1.

use std::task::{Context, Waker};

use crate::http::http2_frame::MAX_WINDOW;
use crate::http::http2_head::TrailersError;
use crate::http::http2_output::Place;

/// The open streams, by ascending number, and those that ended early a short while ago.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Vec<Stream>,
    /// Streams that this server has reset, or whose response has ended before the request, the oldest first. Their clients
    /// may not know yet.
    ended_early: Vec<u32>,
}

/// A stream whose request is being handled.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// Content that has arrived and was not taken. Bounded by the window.
    pub(super) received: Vec<u8>,
    /// True once the client has sent all.
    pub(super) has_ended: bool,
    pub(super) trailers: Result<(), TrailersError>,
    /// How many bytes are missing if the request declares its length.
    pub(super) missing: Option<u64>,
    /// How many bytes the client may send.
    pub(super) receive_window: i64,
    /// How many bytes the task has taken and may not have passed on.
    pub(super) taken: u32,
    /// How many bytes were passed on that the client has not been told of.
    pub(super) released: u32,
    /// How many bytes the client accepts.
    pub(super) send_window: i64,
    pub(super) sending: Sending,
    /// True if the client or this server has reset it.
    pub(super) is_reset: bool,
    /// True while it is in the queue of those that want to send data.
    pub(super) is_waiting: bool,
    waker: Option<Waker>,
}

/// How far the response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    Head,
    /// Where the last DATA frame was put.
    Body(Option<Place>),
    Ended,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        let position = self.position(id)?;
        self.open.get_mut(position)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.open.iter_mut()
    }

    /// Adds a stream, which must have a higher number than all others had.
    pub(super) fn push(&mut self, stream: Stream) {
        self.open.push(stream);
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream> {
        let position = self.position(id)?;
        Some(self.open.remove(position))
    }

    /// Records that a stream has ended before the client has ended it.
    pub(super) fn remember_ended(&mut self, id: u32) {
        if self.ended_early.len() >= MAX_REMEMBERED {
            self.ended_early.drain(..MAX_REMEMBERED / 2);
        }
        self.ended_early.push(id);
    }

    /// Returns true if a frame on a closed stream may have been sent before the client knew that the stream has ended.
    pub(super) fn has_ended_early(&self, id: u32) -> bool {
        self.ended_early.contains(&id)
    }

    fn position(&self, id: u32) -> Option<usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id).ok()
    }
}

impl Stream {
    pub(super) fn new(id: u32, receive_window: i64, send_window: i64) -> Self {
        Self {
            id,
            received: Vec::new(),
            has_ended: false,
            trailers: Ok(()),
            missing: None,
            receive_window,
            taken: 0,
            released: 0,
            send_window,
            sending: Sending::Head,
            is_reset: false,
            is_waiting: false,
            waker: None,
        }
    }

    /// Keeps the task that is to be woken at the next event of this stream.
    pub(super) fn wait(&mut self, context: &Context<'_>) {
        let is_kept = |waker: &Waker| waker.will_wake(context.waker());
        if !self.waker.as_ref().is_some_and(is_kept) {
            self.waker = Some(context.waker().clone());
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Changes the send window. Returns false if it would be too large, RFC 9113 §6.9.1.
    pub(super) fn grow(&mut self, by: i64) -> bool {
        self.send_window += by;
        if self.send_window > 0 {
            self.wake();
        }
        self.send_window <= MAX_WINDOW
    }
}

/// How many streams that ended early are remembered: more than are open at the same time.
const MAX_REMEMBERED: usize = 512;
