//! How does a body get from one connection to another?
//!
//! Piece by piece: what was read is written before more is read, so a slow reader slows the writer down and nothing piles
//! up here. The connections may speak different versions of HTTP.

use std::cell::Cell;
use std::io;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;

use crate::http::chunked::ChunkError;
use crate::net::buffer::Buffer;
use crate::net::timer::Timer;

/// A body that comes in.
pub(crate) trait Source {
    /// The next piece, which is never empty; `None` at the end of the body.
    async fn next(&mut self) -> Result<Option<Chunk>, BodyError>;

    /// Whether all of it was read.
    fn has_ended(&self) -> bool;

    /// Whether the next piece, or the end, need not be waited for.
    fn is_at_hand(&self) -> bool;

    /// The trailer section once the body has ended: field lines and the empty line, or nothing.
    fn trailers(&self) -> &[u8];

    /// Waits until the other side has gone. What it sends meanwhile is kept.
    async fn left(&mut self) -> BodyError;
}

/// A body that goes out.
pub(crate) trait Sink {
    /// Writes a piece, and the head before it if that was kept back.
    async fn data(&mut self, data: &[u8]) -> io::Result<()>;

    /// Writes what was kept back.
    async fn flush(&mut self) -> io::Result<()>;

    /// Ends the body. `trailers` are field lines and the empty line, or nothing.
    async fn end(&mut self, trailers: &[u8]) -> io::Result<()>;
}

/// A piece of a body.
pub(crate) enum Chunk {
    Pooled(Buffer),
    Shared(Bytes),
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pooled(buffer) => buffer,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Why a body does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection or stream broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// It is not one.
    #[error("the body is malformed")]
    Chunk(#[source] ChunkError),
    /// The connection ended before the body.
    #[error("the connection ended early")]
    Incomplete,
    /// What follows it as trailers is none.
    #[error("the trailers are malformed")]
    Trailers,
    /// Its trailers are larger than a head may be.
    #[error("the trailers are too large")]
    TrailersTooLarge,
}

/// Why a body did not get through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PumpError {
    /// Reading it failed.
    #[error("reading the body failed")]
    Source(#[source] BodyError),
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    SourceIdle,
    /// Writing it failed.
    #[error("writing the body failed")]
    Sink(#[source] io::Error),
    /// Nothing was taken for too long.
    #[error("nothing was taken for too long")]
    SinkIdle,
    /// It is larger than it may be.
    #[error("the body is too large")]
    TooLarge,
}

/// What a pump has to keep to.
pub(crate) struct Bounds<'a> {
    /// Longest pause of either side.
    pub(crate) idle: Duration,
    /// Most bytes; 0 for no limit.
    pub(crate) most: u64,
    /// How many bytes have passed.
    pub(crate) passed: &'a Cell<u64>,
}

/// Moves a whole body, and what `edit` leaves of its trailers.
pub(crate) async fn pump(
    source: &mut impl Source,
    sink: &mut impl Sink,
    timer: &mut Timer,
    bounds: Bounds<'_>,
    edit: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<(), PumpError> {
    loop {
        if !source.is_at_hand() {
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
                if bounds.most > 0 && passed > bounds.most {
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
