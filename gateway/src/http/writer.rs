//! How are messages written to a connection?
//!
//! A head is kept back until the first bytes of its body are there, so that a small message is one system call; if the
//! body keeps us waiting, the head goes alone.

use std::io::{self, IoSlice, Write};
use std::rc::Rc;

use crate::http::body::Sink;
use crate::http::framing::Length;
use crate::net::stream::Io;

/// The writing side of a connection.
pub(crate) struct Writer {
    io: Rc<Io>,
    /// A head that was not written yet.
    pub(crate) head: Vec<u8>,
    framing: Framing,
    /// Whether anything of the current message was written.
    has_begun: bool,
}

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Chunked,
    /// By the end of the connection.
    End,
    /// By its declared length, or because there is none.
    Plain,
}

impl Writer {
    pub(crate) fn new(io: Rc<Io>) -> Self {
        Self {
            io,
            head: Vec::new(),
            framing: Framing::Plain,
            has_begun: false,
        }
    }

    /// Begins a message whose head is in [`Writer::head`].
    pub(crate) fn begin(&mut self, length: Length) {
        self.framing = match length {
            Length::Chunked => Framing::Chunked,
            Length::Empty | Length::Exact(_) => Framing::Plain,
            Length::UntilEnd => Framing::End,
        };
        self.has_begun = false;
    }

    /// Whether anything of the current message was written.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Says that nothing more will be written.
    pub(crate) async fn end_writing(&self) -> io::Result<()> {
        self.io.end_writing().await
    }

    async fn write(&mut self, before: &[u8], data: &[u8], after: &[u8]) -> io::Result<()> {
        let mut parts = [
            IoSlice::new(&self.head),
            IoSlice::new(before),
            IoSlice::new(data),
            IoSlice::new(after),
        ];
        let filled = {
            // Empty parts in front would cost a vectored write where a plain one does.
            let mut filled = 0;
            for place in 0..parts.len() {
                if parts.get(place).is_some_and(|part| !part.is_empty()) {
                    parts.swap(filled, place);
                    filled += 1;
                }
            }
            filled
        };
        // Said before, since whoever waits no longer does not know how much was written.
        self.has_begun = true;
        let result = self
            .io
            .write_all(parts.get_mut(..filled).unwrap_or_default())
            .await;
        self.head.clear();
        if self.head.capacity() > KEPT {
            self.head = Vec::new();
        }
        result
    }
}

impl Sink for Writer {
    async fn data(&mut self, data: &[u8]) -> io::Result<()> {
        match self.framing {
            Framing::Chunked => {
                let mut size = [0; 18];
                let size = chunk_size(&mut size, data.len());
                self.write(size, data, b"\r\n").await
            }
            // One plain write costs less than one of two parts, and copying so little costs nothing.
            Framing::End | Framing::Plain if !self.head.is_empty() && data.len() <= COPIED => {
                self.head.extend_from_slice(data);
                self.write(&[], &[], &[]).await
            }
            Framing::End | Framing::Plain => self.write(&[], data, &[]).await,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.head.is_empty() {
            return Ok(());
        }
        self.write(&[], &[], &[]).await
    }

    async fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        match self.framing {
            Framing::Chunked if trailers.is_empty() => self.write(b"0\r\n\r\n", &[], &[]).await,
            Framing::Chunked => self.write(b"0\r\n", trailers, &[]).await,
            Framing::End => {
                self.flush().await?;
                self.end_writing().await
            }
            Framing::Plain => self.flush().await,
        }
    }
}

/// The first line of a chunk, RFC 9112 §7.1.
fn chunk_size(line: &mut [u8; 18], size: usize) -> &[u8] {
    let room = line.len();
    let mut left = line.as_mut_slice();
    // Sixteen digits and the end of the line always fit.
    let _ = write!(left, "{size:x}\r\n");
    let count = room - left.len();
    line.get(..count).unwrap_or_default()
}

/// Most bytes of a body that are copied behind their head.
const COPIED: usize = 8 * 1024;

/// A head's memory that is kept for the next one, in bytes.
const KEPT: usize = 16 * 1024;
