//! Moves a body from one connection to another, for any HTTP version on either side.
//!
//! Each piece is written before the next one is read, so a slow reader slows the writer down and nothing is buffered here.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::http::chunked::ChunkError;
use crate::net::buffer::Buffer;
use crate::net::timer::Timer;

/// A body to read.
pub(crate) trait Source {
    /// Returns the next piece, which is never empty; `None` at the end of the body.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>>;

    /// Waits for the next piece, as [`Source::poll_next`].
    async fn next(&mut self) -> Result<Option<Chunk>, BodyError> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Returns true if the whole body was read.
    fn has_ended(&self) -> bool;

    /// Returns true if the next piece or the end is available without waiting.
    fn is_ready(&self) -> bool;

    /// Returns the trailer section once the body has ended: field lines and the empty line, or nothing.
    fn trailers(&self) -> &[u8];

    /// Waits until the other side has closed the connection. What it sends meanwhile is kept.
    async fn closed(&mut self) -> BodyError;
}

/// A body to write.
pub(crate) trait Sink {
    /// Writes a piece, after the head if that has not been written yet.
    async fn data(&mut self, data: &[u8]) -> io::Result<()>;

    /// Writes the head if it has not been written yet.
    async fn flush(&mut self) -> io::Result<()>;

    /// Ends the body. `trailers` are field lines and the empty line, or nothing.
    async fn end(&mut self, trailers: &[u8]) -> io::Result<()>;

    /// Writes bytes of a tunnel, which has no head and no coding. Returns how many were written.
    fn poll_write(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>>;

    /// Waits until no bytes of a tunnel are buffered.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A piece of a body.
pub(crate) enum Chunk {
    Pooled(Buffer),
    Owned(Vec<u8>),
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pooled(buffer) => buffer,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// The error when a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection or stream broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The chunked coding is malformed.
    #[error("the body is malformed")]
    Chunk(#[source] ChunkError),
    /// The connection ended before the body.
    #[error("the connection ended early")]
    Incomplete,
    /// The trailers are malformed.
    #[error("the trailers are malformed")]
    Trailers,
    /// The trailers are larger than allowed.
    #[error("the trailers are too large")]
    TrailersTooLarge,
}

/// The error when a body cannot be moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PumpError {
    /// Reading it failed.
    #[error("reading the body failed")]
    Source(#[source] BodyError),
    /// The next piece did not arrive in time.
    #[error("the next piece did not arrive in time")]
    SourceIdle,
    /// Writing it failed.
    #[error("writing the body failed")]
    Sink(#[source] io::Error),
    /// The receiver did not take a piece in time.
    #[error("the receiver did not take a piece in time")]
    SinkIdle,
    /// The body is larger than allowed.
    #[error("the body is too large")]
    TooLarge,
}

/// The limits of a pump.
pub(crate) struct Bounds<'a> {
    /// Longest pause of either side.
    pub(crate) idle: Duration,
    /// Maximum number of bytes, 0 for no limit.
    pub(crate) max: u64,
    /// Counts the bytes that have passed.
    pub(crate) passed: &'a Cell<u64>,
}

/// Moves a whole body, and the trailers that `edit` returns.
pub(crate) async fn pump(
    source: &mut impl Source,
    sink: &mut impl Sink,
    timer: &mut Timer,
    bounds: Bounds<'_>,
    edit: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<(), PumpError> {
    loop {
        if !source.is_ready() {
            let flush = timer.within(bounds.idle, sink.flush()).await;
            flush
                .map_err(|_| PumpError::SinkIdle)?
                .map_err(PumpError::Sink)?;
        }
        let next = timer.within(bounds.idle, source.next()).await;
        let next = next
            .map_err(|_| PumpError::SourceIdle)?
            .map_err(PumpError::Source)?;
        let written = match next {
            Some(chunk) => {
                let passed = bounds.passed.get().saturating_add(chunk.len() as u64);
                if bounds.max > 0 && passed > bounds.max {
                    return Err(PumpError::TooLarge);
                }
                bounds.passed.set(passed);
                timer.within(bounds.idle, sink.data(&chunk)).await
            }
            None => {
                let trailers = match source.trailers() {
                    [] => Vec::new(),
                    trailers => edit(trailers),
                };
                let ended = timer.within(bounds.idle, sink.end(&trailers)).await;
                return ended
                    .map_err(|_| PumpError::SinkIdle)?
                    .map_err(PumpError::Sink);
            }
        };
        written
            .map_err(|_| PumpError::SinkIdle)?
            .map_err(PumpError::Sink)?;
    }
}
