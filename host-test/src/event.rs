//! Defines the vocabulary that every layer shares: what arrives on a stream, on which side, and what was logged.
//!
//! May use `abi`.

use crate::abi::{HeaderMap, LogLevel};

/// One side of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From the client to the upstream.
    Request,
    /// From the upstream, or from the filter itself, to the client.
    Response,
}

/// The state of one side of a stream, in order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// Everything so far was forwarded.
    Continue,
    /// The filter holds the message until it resumes the stream; anything fed in the meantime is held as well.
    Paused,
    /// The filter sent a local reply, or failed and Envoy replied for it, see [`crate::Outcome::local_reply`].
    Replied,
    /// The filter closed the stream, or failed after the response headers had been forwarded.
    Reset,
}

/// A line that a filter logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The severity.
    pub level: LogLevel,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// A request or response as the filter forwarded it, or all data forwarded on one side of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Pseudo-headers and fields.
    pub headers: HeaderMap,
    /// The body so far.
    pub body: Vec<u8>,
    /// The trailers; empty if there are none.
    pub trailers: HeaderMap,
    /// True once the end of the message was forwarded.
    pub is_complete: bool,
}

/// Something that arrives on one side of a stream. The flag is the end of the stream.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Headers(HeaderMap, bool),
    Body(Vec<u8>, bool),
    Trailers(HeaderMap),
    /// A new connection.
    Connection,
    /// Data of a connection.
    Data(Vec<u8>, bool),
}

impl Side {
    /// Both sides.
    pub(crate) const BOTH: [Self; 2] = [Self::Request, Self::Response];
}

impl Event {
    /// Returns true if this is the last event of a message.
    pub(crate) fn ends_message(&self) -> bool {
        matches!(
            self,
            Self::Headers(_, true) | Self::Body(_, true) | Self::Data(_, true) | Self::Trailers(_)
        )
    }
}

impl Event {
    pub(crate) fn body_size(&self) -> usize {
        match self {
            Self::Body(frame, _) => frame.len(),
            _ => 0,
        }
    }
}

impl Message {
    /// Appends an event that was forwarded.
    pub(crate) fn append(&mut self, event: Event) {
        match event {
            Event::Headers(headers, is_complete) => {
                self.headers = headers;
                self.is_complete = is_complete;
            }
            Event::Body(bytes, is_complete) | Event::Data(bytes, is_complete) => {
                self.body.extend(bytes);
                self.is_complete = is_complete;
            }
            Event::Trailers(trailers) => {
                self.trailers = trailers;
                self.is_complete = true;
            }
            // A connection carries no data yet.
            Event::Connection => {}
        }
    }
}
