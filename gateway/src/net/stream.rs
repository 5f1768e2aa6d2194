//! How does the gateway read from a connection and write to it?
//!
//! Both at once and from one task: a request goes up while its answer comes down. Reading lends a buffer only when there
//! is something to read, so a connection that waits holds none. Plain TCP and TLS look alike from here.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::net::buffer::{Buffer, Buffers};

/// A connection.
pub(crate) struct Io(RefCell<Stream>);

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// A connection without TLS.
    pub(crate) fn plain(stream: TcpStream) -> Rc<Self> {
        // Without it, small messages wait for each other's acknowledgement.
        let _ = stream.set_nodelay(true);
        Rc::new(Self(RefCell::new(Stream::Plain(stream))))
    }

    /// A connection over TLS.
    pub(crate) fn tls(stream: TlsStream<TcpStream>) -> Rc<Self> {
        let _ = stream.get_ref().0.set_nodelay(true);
        Rc::new(Self(RefCell::new(Stream::Tls(Box::new(stream)))))
    }

    /// Reads into a buffer of `buffers`; an empty one at the end.
    pub(crate) async fn read(&self, buffers: &Rc<Buffers>) -> io::Result<Buffer> {
        std::future::poll_fn(|context| {
            let mut buffer = buffers.lend();
            let count = ready!(self.poll_read(context, buffer.spare()))?;
            buffer.filled(count);
            Poll::Ready(Ok(buffer))
        })
        .await
    }

    /// Reads behind the bytes of `buffer`; returns how many there were, 0 at the end.
    pub(crate) async fn read_more(&self, buffer: &mut Buffer) -> io::Result<usize> {
        std::future::poll_fn(|context| {
            let count = ready!(self.poll_read(context, buffer.spare()))?;
            buffer.filled(count);
            Poll::Ready(Ok(count))
        })
        .await
    }

    /// Writes all parts, in order.
    pub(crate) async fn write_all(&self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Drops parts that are empty from the start.
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

    /// Says that nothing more will be written.
    pub(crate) async fn end_writing(&self) -> io::Result<()> {
        std::future::poll_fn(|context| Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(context))
            .await
    }

    /// The name that the client has asked for within TLS.
    pub(crate) fn server_name(&self) -> Option<String> {
        match &*self.0.borrow() {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.get_ref().1.server_name().map(str::to_owned),
        }
    }

    /// Makes the end of the connection a reset, which nobody takes for the end of a message.
    pub(crate) fn reset_at_end(&self) {
        // If it fails, the client is no worse off than with other proxies.
        let _ = self.0.borrow().socket().set_linger(Some(Duration::ZERO));
    }

    /// Waits until the client's side of the connection has ended, or the connection was reset; reads nothing, so bytes may
    /// still be there.
    pub(crate) async fn has_ended(&self) -> io::Result<()> {
        // A second registration of the same socket: the first one is ready for as long as there are bytes.
        let socket = self.0.borrow().socket().try_clone()?;
        let watched = TcpStream::from_std(socket.into())?;
        // Urgent bytes are not among what it is registered for, so only an end makes it ready.
        watched.ready(Interest::PRIORITY).await.map(|_| ())
    }

    /// Whether nothing has happened on a connection on which nothing should: no bytes, no end.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.poll_read(&mut context, &mut [0]).is_pending()
    }

    pub(crate) fn poll_read_buf(
        &self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(context, into)
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

    pub(crate) fn poll_end_writing(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_shutdown(context)
    }

    fn poll_read(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(into);
        ready!(self.poll_read_buf(context, &mut into))?;
        Poll::Ready(Ok(into.filled().len()))
    }
}

impl Stream {
    fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Plain(stream) => SockRef::from(stream),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0),
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
            // The kernel sends by itself.
            Self::Plain(_) => Poll::Ready(Ok(())),
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
