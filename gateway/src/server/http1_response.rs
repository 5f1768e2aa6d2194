//! Writes responses to a client that speaks HTTP/1.

use std::io;
use std::task::{Context, Poll};

use crate::http::body::Sink;
use crate::http::framing::Length;
use crate::http::head::Version;
use crate::http::writer::Writer;
use crate::proxy::downstream::{Downstream, DownstreamHead};

/// The writing side of a client's HTTP/1 connection.
pub(super) struct Http1Downstream {
    pub(super) writer: Writer,
    pub(super) version: Version,
    /// True if the connection stays open after the response.
    pub(super) persists: bool,
    /// True if the end of the connection ends the response's body, RFC 9112 §6.3.
    pub(super) ends_with_connection: bool,
}

impl Http1Downstream {
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            writer,
            version: Version::Http11,
            persists: true,
            ends_with_connection: false,
        }
    }
}

impl Downstream for Http1Downstream {
    fn begin(&mut self, response: &DownstreamHead<'_>) {
        let length = length_for(response.length, self.version);
        self.ends_with_connection = length == Length::UntilEnd;
        self.persists &= !self.ends_with_connection && !response.closes;
        write_head(&mut self.writer.head, response, self.version, self.persists);
        self.writer.begin(length);
    }

    fn take_back(&mut self) -> bool {
        if self.writer.has_begun() {
            return false;
        }
        self.writer.head.clear();
        self.ends_with_connection = false;
        true
    }

    async fn send_informational(&mut self, response: &DownstreamHead<'_>) -> io::Result<()> {
        // HTTP/1.0 has none, RFC 9110 §15.2.
        if self.version == Version::Http10 {
            return Ok(());
        }
        let head = &mut self.writer.head;
        write_fields(head, response);
        put(head, &[b"\r\n"]);
        self.writer.flush().await
    }
}

impl Sink for Http1Downstream {
    async fn data(&mut self, data: &[u8]) -> io::Result<()> {
        self.writer.data(data).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().await
    }

    async fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        self.writer.end(trailers).await
    }

    fn poll_write(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.writer.poll_write(context, data)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_flush(context)
    }
}

/// Writes the head of a final response. `persists`: whether the connection stays open after it.
pub(super) fn write_head(
    head: &mut Vec<u8>,
    response: &DownstreamHead<'_>,
    version: Version,
    persists: bool,
) {
    write_fields(head, response);
    match length_for(response.length, version) {
        Length::Exact(length) => {
            put(
                head,
                &[
                    b"content-length: ",
                    itoa::Buffer::new().format(length).as_bytes(),
                    b"\r\n",
                ],
            );
        }
        Length::Chunked => put(head, &[b"transfer-encoding: chunked\r\n"]),
        Length::Empty | Length::UntilEnd => {}
    }
    if response.status == 101 {
        put(head, &[b"connection: Upgrade\r\nupgrade: websocket\r\n"]);
    } else if !persists {
        put(head, &[b"connection: close\r\n"]);
    } else if version == Version::Http10 {
        put(head, &[b"connection: keep-alive\r\n"]);
    }
    put(head, &[b"\r\n"]);
}

/// Returns how a body is delimited for a client that speaks this version.
fn length_for(length: Length, version: Version) -> Length {
    match (length, version) {
        (Length::Chunked | Length::UntilEnd, Version::Http11) => Length::Chunked,
        (Length::Chunked | Length::UntilEnd, Version::Http10) => Length::UntilEnd,
        (length, _) => length,
    }
}

/// Writes the status line and the fields that do not depend on the connection.
fn write_fields(head: &mut Vec<u8>, response: &DownstreamHead<'_>) {
    let mut status = itoa::Buffer::new();
    let status = status.format(response.status);
    put(
        head,
        &[
            b"HTTP/1.1 ",
            status.as_bytes(),
            b" ",
            response.reason,
            b"\r\n",
        ],
    );
    response.emit(|name, value| put(head, &[name, b": ", value, b"\r\n"]));
    if let Some(declared) = response.declared {
        put(head, &[b"content-length: ", declared, b"\r\n"]);
    }
}

fn put(head: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        head.extend_from_slice(part);
    }
}
