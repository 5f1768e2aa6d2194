//! Writes messages to a connection.
//!
//! A head is buffered until the first bytes of its body are available, so that a small message is one system call. If the
//! body is not available yet, the head is written alone.

use std::io::{self, IoSlice, Write};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::http::body::Sink;
use crate::http::framing::Length;
use crate::net::stream::Stream;

/// The writing side of a connection.
pub(crate) struct Writer {
    stream: Rc<Stream>,
    /// A head that has not been written yet.
    pub(crate) head: Vec<u8>,
    delimiter: Delimiter,
    /// True if some of the current message may have been written.
    has_begun: bool,
}

/// How the body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delimiter {
    Chunked,
    /// By the end of the connection.
    Close,
    /// By its declared length, or there is no body.
    Length,
}

impl Writer {
    pub(crate) fn new(stream: Rc<Stream>) -> Self {
        Self {
            stream,
            head: Vec::new(),
            delimiter: Delimiter::Length,
            has_begun: false,
        }
    }

    /// Begins a message whose head is in [`Writer::head`].
    pub(crate) fn begin(&mut self, length: Length) {
        self.delimiter = match length {
            Length::Chunked => Delimiter::Chunked,
            Length::Empty | Length::Exact(_) => Delimiter::Length,
            Length::UntilEnd => Delimiter::Close,
        };
        self.has_begun = false;
    }

    /// Returns true if some of the current message may have been written.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Closes the writing side of the connection.
    pub(crate) async fn shutdown(&self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    async fn write(&mut self, before: &[u8], data: &[u8], after: &[u8]) -> io::Result<()> {
        let mut parts = [
            IoSlice::new(&self.head),
            IoSlice::new(before),
            IoSlice::new(data),
            IoSlice::new(after),
        ];
        let filled = {
            // Skip empty parts: a plain write is cheaper than a vectored one.
            let mut filled = 0;
            for index in 0..parts.len() {
                if parts.get(index).is_some_and(|part| !part.is_empty()) {
                    parts.swap(filled, index);
                    filled += 1;
                }
            }
            filled
        };
        // Set before the write, which may be cancelled after some bytes.
        self.has_begun = true;
        let result = self
            .stream
            .write_all(parts.get_mut(..filled).unwrap_or_default())
            .await;
        self.head.clear();
        if self.head.capacity() > MAX_KEPT {
            self.head = Vec::new();
        }
        result
    }
}

impl Sink for Writer {
    async fn data(&mut self, data: &[u8]) -> io::Result<()> {
        match self.delimiter {
            Delimiter::Chunked => {
                let mut size = [0; 18];
                let size = chunk_size(&mut size, data.len());
                self.write(size, data, b"\r\n").await
            }
            // Copying a small piece and writing it with the head is cheaper than a vectored write.
            Delimiter::Close | Delimiter::Length
                if !self.head.is_empty() && data.len() <= MAX_COPIED =>
            {
                self.head.extend_from_slice(data);
                self.write(&[], &[], &[]).await
            }
            Delimiter::Close | Delimiter::Length => self.write(&[], data, &[]).await,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.head.is_empty() {
            return Ok(());
        }
        self.write(&[], &[], &[]).await
    }

    async fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        match self.delimiter {
            Delimiter::Chunked if trailers.is_empty() => self.write(b"0\r\n\r\n", &[], &[]).await,
            Delimiter::Chunked => self.write(b"0\r\n", trailers, &[]).await,
            Delimiter::Close => {
                self.flush().await?;
                self.shutdown().await
            }
            Delimiter::Length => self.flush().await,
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(context, &[IoSlice::new(data)])
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(context)
    }
}

/// Formats the first line of a chunk, RFC 9112 §7.1.
fn chunk_size(line: &mut [u8; 18], size: usize) -> &[u8] {
    let room = line.len();
    let mut unused = line.as_mut_slice();
    // Sixteen digits and the end of the line always fit.
    let _ = write!(unused, "{size:x}\r\n");
    let count = room - unused.len();
    line.get(..count).unwrap_or_default()
}

/// Largest piece of a body that is copied after its head, in bytes.
const MAX_COPIED: usize = 8 * 1024;

/// Largest buffer that is kept for the next head, in bytes.
const MAX_KEPT: usize = 16 * 1024;
