//! How are messages read off a connection, one after another?
//!
//! Bytes that came with one message and belong to the next stay here. A body is handed on in the buffers it came in.

use std::io;
use std::rc::Rc;

use crate::http::body::{BodyError, Chunk, Source};
use crate::http::chunked::Decoder;
use crate::http::framing::Length;
use crate::http::head::{End, HeadError};
use crate::net::buffer::{Buffer, Buffers};
use crate::net::stream::Io;

/// The reading side of a connection.
pub(crate) struct Reader {
    io: Rc<Io>,
    buffers: Rc<Buffers>,
    /// What was read and not yet consumed; never empty.
    rest: Option<Buffer>,
}

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The connection ended within a head.
    #[error("the connection ended within a head")]
    Ended,
    /// It is none.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Reader {
    pub(crate) fn new(io: Rc<Io>, buffers: Rc<Buffers>) -> Self {
        Self {
            io,
            buffers,
            rest: None,
        }
    }

    /// Waits until there is something to read; `false` at the end of the connection.
    pub(crate) async fn has_more(&mut self) -> io::Result<bool> {
        if self.rest.is_none() {
            let read = self.io.read(&self.buffers).await?;
            self.rest = Some(read).filter(|read| !read.is_empty());
        }
        Ok(self.rest.is_some())
    }

    /// Reads until there is a whole head at the front of [`Reader::bytes`]; returns its length, or 0 at the end of the
    /// connection. One that has more than `most` bytes and no end yet is not read any further.
    pub(crate) async fn head(&mut self, most: usize) -> Result<usize, ReadError> {
        if !self.has_more().await? {
            return Ok(0);
        }
        let mut end = End::default();
        loop {
            let Some(buffer) = &mut self.rest else {
                return Err(ReadError::Ended);
            };
            if let Some(length) = end.find(buffer)? {
                return Ok(length);
            }
            if buffer.len() > most || buffer.is_full() {
                return Err(HeadError::TooLarge.into());
            }
            if self.io.read_more(buffer).await? == 0 {
                return Err(ReadError::Ended);
            }
        }
    }

    /// The same, behind the empty lines that some clients send before a request, RFC 9112 §2.2, however they come.
    pub(crate) async fn head_of_request(&mut self, most: usize) -> Result<usize, ReadError> {
        let mut skipped = 0;
        while self.has_more().await? {
            match self.bytes() {
                [b'\r', b'\n', ..] if skipped < most => {
                    self.consume(2);
                    skipped += 2;
                }
                [b'\r'] => {
                    if let Some(buffer) = &mut self.rest
                        && self.io.read_more(buffer).await? == 0
                    {
                        return Err(ReadError::Ended);
                    }
                }
                _ => return self.head(most).await,
            }
        }
        Ok(0)
    }

    /// Drops the empty lines that are there already.
    pub(crate) fn skip_empty_lines(&mut self) {
        while let Some(buffer) = &mut self.rest
            && buffer.starts_with(b"\r\n")
        {
            self.consume(2);
        }
    }

    /// What was read and not consumed.
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

    /// Takes what was read and not consumed.
    pub(crate) fn take_rest(&mut self) -> Option<Buffer> {
        self.rest.take()
    }

    /// Waits until the connection ends or breaks; reads ahead as far as there is room.
    async fn watch(&mut self) -> io::Result<()> {
        loop {
            match &mut self.rest {
                None => {
                    if !self.has_more().await? {
                        return Ok(());
                    }
                }
                Some(buffer) if buffer.is_full() => return self.io.has_ended().await,
                Some(buffer) => {
                    if self.io.read_more(buffer).await? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn next(&mut self) -> io::Result<Buffer> {
        match self.rest.take() {
            Some(rest) => Ok(rest),
            None => self.io.read(&self.buffers).await,
        }
    }
}

/// A body on a connection.
pub(crate) struct Body<'r> {
    reader: &'r mut Reader,
    left: Left,
}

enum Left {
    Chunked(Box<Decoder>),
    Exact(u64),
    UntilEnd,
}

impl<'r> Body<'r> {
    /// The body that begins at the front of `reader`. `allowance`: most bytes of chunk extensions and trailers.
    pub(crate) fn new(reader: &'r mut Reader, length: Length, allowance: usize) -> Self {
        let left = match length {
            Length::Empty => Left::Exact(0),
            Length::Exact(length) => Left::Exact(length),
            Length::Chunked => Left::Chunked(Box::new(Decoder::new(allowance))),
            Length::UntilEnd => Left::UntilEnd,
        };
        Self { reader, left }
    }
}

impl Source for Body<'_> {
    async fn next(&mut self) -> Result<Option<Chunk>, BodyError> {
        loop {
            if self.has_ended() {
                return Ok(None);
            }
            let mut buffer = self.reader.next().await.map_err(BodyError::Broken)?;
            if buffer.is_empty() {
                return match self.left {
                    Left::UntilEnd => Ok(None),
                    Left::Chunked(_) | Left::Exact(_) => Err(BodyError::Incomplete),
                };
            }
            match &mut self.left {
                Left::UntilEnd => {}
                Left::Exact(left) => {
                    let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
                    self.reader.rest = buffer.split_off(wanted);
                    *left -= buffer.len() as u64;
                }
                Left::Chunked(decoder) => {
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
            return Ok(Some(Chunk::Pooled(buffer)));
        }
    }

    fn has_ended(&self) -> bool {
        match &self.left {
            Left::Chunked(decoder) => decoder.is_done(),
            Left::Exact(left) => *left == 0,
            Left::UntilEnd => false,
        }
    }

    fn is_at_hand(&self) -> bool {
        self.has_ended() || self.reader.rest.is_some()
    }

    fn trailers(&self) -> &[u8] {
        match &self.left {
            Left::Chunked(decoder) => decoder.trailers(),
            Left::Exact(_) | Left::UntilEnd => &[],
        }
    }

    async fn left(&mut self) -> BodyError {
        match self.reader.watch().await {
            Ok(()) => BodyError::Incomplete,
            Err(error) => BodyError::Broken(error),
        }
    }
}
