//! Reads messages from a connection, one after another.
//!
//! Bytes that arrive with one message and belong to the next are kept. A body is returned in the buffers it was read into.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::http::body::{BodyError, Chunk, Source};
use crate::http::chunked::Decoder;
use crate::http::framing::Length;
use crate::http::head::{HeadError, HeadScanner};
use crate::net::buffer::{Buffer, BufferPool};
use crate::net::stream::Stream;

/// The reading side of a connection.
pub(crate) struct Reader {
    stream: Rc<Stream>,
    buffers: Rc<BufferPool>,
    /// Bytes that were read and not consumed; never empty.
    rest: Option<Buffer>,
}

/// The error when a head cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The connection ended within a head.
    #[error("the connection ended within a head")]
    Ended,
    /// The head is malformed.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Reader {
    pub(crate) fn new(stream: Rc<Stream>, buffers: Rc<BufferPool>) -> Self {
        Self {
            stream,
            buffers,
            rest: None,
        }
    }

    /// Waits until there are bytes to read. Returns false at the end of the connection.
    pub(crate) async fn has_more(&mut self) -> io::Result<bool> {
        if self.rest.is_none() {
            let read = self.stream.read(&self.buffers).await?;
            self.rest = Some(read).filter(|read| !read.is_empty());
        }
        Ok(self.rest.is_some())
    }

    /// Reads until there is a whole head at the front of [`Reader::bytes`], and returns its length; 0 at the end of the
    /// connection. Fails if the head does not end within `max` bytes.
    pub(crate) async fn head(&mut self, max: usize) -> Result<usize, ReadError> {
        if !self.has_more().await? {
            return Ok(0);
        }
        let mut scanner = HeadScanner::default();
        loop {
            let Some(buffer) = &mut self.rest else {
                return Err(ReadError::Ended);
            };
            if let Some(length) = scanner.find_end(buffer)? {
                return Ok(length);
            }
            if buffer.len() > max || buffer.is_full() {
                return Err(HeadError::TooLarge.into());
            }
            if self.stream.read_more(buffer).await? == 0 {
                return Err(ReadError::Ended);
            }
        }
    }

    /// Reads a head as [`Reader::head`] does, but skips the empty lines that some clients send before a request, RFC 9112
    /// §2.2.
    pub(crate) async fn request_head(&mut self, max: usize) -> Result<usize, ReadError> {
        let mut skipped = 0;
        while self.has_more().await? {
            match self.bytes() {
                [b'\r', b'\n', ..] if skipped < max => {
                    self.consume(2);
                    skipped += 2;
                }
                [b'\r'] => {
                    if let Some(buffer) = &mut self.rest
                        && self.stream.read_more(buffer).await? == 0
                    {
                        return Err(ReadError::Ended);
                    }
                }
                _ => return self.head(max).await,
            }
        }
        Ok(0)
    }

    /// Drops empty lines that were read already.
    pub(crate) fn skip_empty_lines(&mut self) {
        while let Some(buffer) = &mut self.rest
            && buffer.starts_with(b"\r\n")
        {
            self.consume(2);
        }
    }

    /// Returns the bytes that were read and not consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.rest.as_deref().unwrap_or_default()
    }

    /// Drops `count` bytes at the front.
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(buffer) = &mut self.rest {
            buffer.consume(count);
            if buffer.is_empty() {
                self.rest = None;
            }
        }
    }

    /// Takes the bytes that were read and not consumed.
    pub(crate) fn take_rest(&mut self) -> Option<Buffer> {
        self.rest.take()
    }

    /// Waits until the connection ends or breaks. Reads ahead as far as the buffer has room.
    async fn watch(&mut self) -> io::Result<()> {
        loop {
            match &mut self.rest {
                None => {
                    if !self.has_more().await? {
                        return Ok(());
                    }
                }
                Some(buffer) if buffer.is_full() => return self.stream.closed().await,
                Some(buffer) => {
                    if self.stream.read_more(buffer).await? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
        match self.rest.take() {
            Some(rest) => Poll::Ready(Ok(rest)),
            None => self.stream.poll_read(context, &self.buffers),
        }
    }
}

/// A body on a connection.
pub(crate) struct Body<'r> {
    reader: &'r mut Reader,
    remaining: Remaining,
}

enum Remaining {
    Chunked(Box<Decoder>),
    Exact(u64),
    UntilEnd,
}

impl<'r> Body<'r> {
    /// Creates the body that begins at the front of `reader`. `allowance`: maximum bytes of chunk extensions and trailers.
    pub(crate) fn new(reader: &'r mut Reader, length: Length, allowance: usize) -> Self {
        let remaining = match length {
            Length::Empty => Remaining::Exact(0),
            Length::Exact(length) => Remaining::Exact(length),
            Length::Chunked => Remaining::Chunked(Box::new(Decoder::new(allowance))),
            Length::UntilEnd => Remaining::UntilEnd,
        };
        Self { reader, remaining }
    }
}

impl Source for Body<'_> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        loop {
            if self.has_ended() {
                return Poll::Ready(Ok(None));
            }
            let next = ready!(self.reader.poll_next(context));
            let mut buffer = next.map_err(BodyError::Broken)?;
            if buffer.is_empty() {
                return Poll::Ready(match self.remaining {
                    Remaining::UntilEnd => Ok(None),
                    Remaining::Chunked(_) | Remaining::Exact(_) => Err(BodyError::Incomplete),
                });
            }
            match &mut self.remaining {
                Remaining::UntilEnd => {}
                Remaining::Exact(remaining) => {
                    let wanted = usize::try_from(*remaining).unwrap_or(usize::MAX);
                    self.reader.rest = buffer.split_off(wanted);
                    *remaining -= buffer.len() as u64;
                }
                Remaining::Chunked(decoder) => {
                    let decoded = decoder
                        .decode(buffer.bytes_mut())
                        .map_err(BodyError::Chunk)?;
                    self.reader.rest = buffer.split_off(decoded.read);
                    buffer.truncate(decoded.data);
                    if buffer.is_empty() {
                        continue;
                    }
                }
            }
            return Poll::Ready(Ok(Some(Chunk::Pooled(buffer))));
        }
    }

    fn has_ended(&self) -> bool {
        match &self.remaining {
            Remaining::Chunked(decoder) => decoder.is_done(),
            Remaining::Exact(remaining) => *remaining == 0,
            Remaining::UntilEnd => false,
        }
    }

    fn is_ready(&self) -> bool {
        self.has_ended() || self.reader.rest.is_some()
    }

    fn trailers(&self) -> &[u8] {
        match &self.remaining {
            Remaining::Chunked(decoder) => decoder.trailers(),
            Remaining::Exact(_) | Remaining::UntilEnd => &[],
        }
    }

    async fn closed(&mut self) -> BodyError {
        match self.reader.watch().await {
            Ok(()) => BodyError::Incomplete,
            Err(error) => BodyError::Broken(error),
        }
    }
}
