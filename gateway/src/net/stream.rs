//! Reads from a connection and writes to it, over TCP or TLS.
//!
//! One task does both at once: it sends a request's body while it receives the response. A buffer is borrowed only when there
//! are bytes to read, so a waiting connection holds none.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::net::buffer::{Buffer, BufferPool};
use crate::net::tcp::TcpSocket;

/// A connection.
pub(crate) struct Stream(RefCell<Socket>);

/// The version of HTTP that the TLS handshake has selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selected {
    Http1,
    Http2,
    /// None: without TLS, or the client does not use ALPN.
    Nothing,
}

enum Socket {
    Plain(TcpSocket),
    Tls(Box<TlsStream<TcpSocket>>),
}

impl Stream {
    /// Creates a connection without TLS.
    pub(crate) fn plain(stream: TcpStream) -> Rc<Self> {
        let socket = Socket::Plain(TcpSocket::new(stream));
        Rc::new(Self(RefCell::new(socket)))
    }

    /// Creates a connection over TLS.
    pub(crate) fn tls(stream: TlsStream<TcpSocket>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Socket::Tls(Box::new(stream)))))
    }

    /// Reads into a buffer of `buffers`. Returns an empty one at the end of the connection.
    pub(crate) async fn read(&self, buffers: &Rc<BufferPool>) -> io::Result<Buffer> {
        std::future::poll_fn(|context| self.poll_read(context, buffers)).await
    }

    /// Appends to the bytes of `buffer`. Returns how many were read, 0 at the end of the connection.
    pub(crate) async fn read_more(&self, buffer: &mut Buffer) -> io::Result<usize> {
        std::future::poll_fn(|context| self.poll_fill(context, buffer)).await
    }

    /// Writes all parts, in order.
    pub(crate) async fn write_all(&self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Drops leading empty parts.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let count = std::future::poll_fn(|context| self.poll_write(context, parts)).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut parts, count);
        }
        std::future::poll_fn(|context| self.poll_flush(context)).await
    }

    /// Closes the writing side.
    pub(crate) async fn shutdown(&self) -> io::Result<()> {
        std::future::poll_fn(|context| self.0.borrow_mut().poll_shutdown(context)).await
    }

    /// Returns the version of HTTP that the TLS handshake has selected by ALPN, RFC 7301.
    pub(crate) fn selected(&self) -> Selected {
        match &*self.0.borrow() {
            Socket::Plain(_) => Selected::Nothing,
            Socket::Tls(stream) => match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Selected::Http2,
                Some(_) => Selected::Http1,
                None => Selected::Nothing,
            },
        }
    }

    /// Returns the server name that the client has sent by SNI.
    pub(crate) fn server_name(&self) -> Option<String> {
        match &*self.0.borrow() {
            Socket::Plain(_) => None,
            Socket::Tls(stream) => stream.get_ref().1.server_name().map(str::to_owned),
        }
    }

    /// Closes the connection by a reset, which cannot be taken for the end of a message.
    pub(crate) fn reset_on_close(&self) {
        // On failure the client gets an orderly end, as from other proxies.
        let _ = self.0.borrow().socket().set_linger(Some(Duration::ZERO));
    }

    /// Waits until the peer has closed or reset the connection. Reads nothing, so unread bytes may remain.
    pub(crate) async fn closed(&self) -> io::Result<()> {
        // A second registration of the socket, because the first one is ready as long as there are bytes.
        let socket = self.0.borrow().socket().try_clone()?;
        let watched = TcpStream::from_std(socket.into())?;
        // The socket is not registered for urgent data, so only the end of the connection makes it ready.
        watched.ready(Interest::PRIORITY).await.map(|_| ())
    }

    /// Returns true if an idle connection has received neither bytes nor its end.
    pub(crate) fn is_idle(&self) -> bool {
        match &*self.0.borrow() {
            Socket::Plain(stream) => stream.is_idle(),
            // No upstream is reached over TLS.
            Socket::Tls(_) => false,
        }
    }

    /// Reads into a buffer of `buffers`. Returns an empty one at the end of the connection.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffers: &Rc<BufferPool>,
    ) -> Poll<io::Result<Buffer>> {
        let mut buffer = buffers.lend();
        ready!(self.poll_fill(context, &mut buffer))?;
        Poll::Ready(Ok(buffer))
    }

    /// Appends to the bytes of `buffer`. Returns how many were read, 0 at the end of the connection.
    pub(crate) fn poll_fill(
        &self,
        context: &mut Context<'_>,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(buffer.spare());
        ready!(self.0.borrow_mut().poll_read(context, &mut into))?;
        let count = into.filled().len();
        buffer.filled(count);
        Poll::Ready(Ok(count))
    }

    pub(crate) fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(context, parts)
    }

    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(context)
    }
}

impl Socket {
    fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Plain(stream) => stream.options(),
            Self::Tls(stream) => stream.get_ref().0.options(),
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => match parts {
                [only] => Pin::new(stream).poll_write(context, only),
                parts => Pin::new(stream).poll_write_vectored(context, parts),
            },
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
