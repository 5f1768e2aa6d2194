//! Reads from a TCP socket and writes to it without libc.
//!
//! libc lets a thread be cancelled inside each of these calls. As soon as a process has several threads, that takes two
//! atomic operations per call, which were 1.5 % of the CPU time of a small request.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::{has_budget_remaining, poll_proceed};

/// A connected socket.
pub(crate) struct TcpSocket(TcpStream);

impl TcpSocket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Otherwise a small message waits until the previous one is acknowledged.
        let _ = stream.set_nodelay(true);
        Self(stream)
    }

    /// Returns the socket for its options.
    pub(crate) fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.0)
    }

    /// Returns true if the socket has received neither bytes nor its end. Registers no waker, because nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        let read = self.0.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Calls `call`, which moves at most `wanted` bytes, once the socket is ready for it.
    fn poll_call(
        &self,
        interest: Interest,
        wanted: usize,
        context: &mut Context<'_>,
        mut call: impl FnMut(&TcpStream) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Self(stream) = self;
        // Called without asking whether the socket is ready, which `try_io` does as well. A task that has used up what tokio
        // lets it do at once has to ask, because that makes it pause.
        let mut must_ask = !has_budget_remaining();
        loop {
            if must_ask {
                if interest.is_readable() {
                    ready!(stream.poll_read_ready(context))?;
                } else {
                    ready!(stream.poll_write_ready(context))?;
                }
            }
            must_ask = true;
            let mut moved = None;
            let called = stream.try_io(interest, || {
                let count = call(stream)?;
                moved = Some(count);
                if (1..wanted).contains(&count) {
                    // The kernel has no more bytes, or no more room: the next call would only say so.
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match (moved, called) {
                (Some(count), called) => {
                    // Calls that move all they can may go on for ever: a body in tiny chunks is read once and written often.
                    if called.is_ok()
                        && let Poll::Ready(used) = poll_proceed(context)
                    {
                        used.made_progress();
                    }
                    return Poll::Ready(Ok(count));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }
}

impl AsyncRead for TcpSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = into.initialize_unfilled();
        let wanted = room.len();
        let read = self.poll_call(Interest::READABLE, wanted, context, |stream| {
            recv(stream, &mut *room, RecvFlags::empty()).map(|(_, count)| count)
        });
        let count = ready!(read)?;
        into.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_call(Interest::WRITABLE, data.len(), context, |stream| {
            send(stream, data, SendFlags::NOSIGNAL)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = parts.iter().map(|part| part.len()).sum();
        self.poll_call(Interest::WRITABLE, wanted, context, |stream| {
            rustix::io::writev(stream, parts)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel sends without a flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::TcpListener;
    use tokio::task::yield_now;

    use super::*;

    /// Otherwise one connection could keep all others of its worker waiting.
    #[tokio::test]
    async fn a_task_pauses_although_its_socket_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = TcpStream::connect(listener.local_addr().unwrap());
        let (one, other) = tokio::join!(connect, listener.accept());
        let mut writer = TcpSocket::new(one.unwrap());
        let mut reader = TcpSocket::new(other.unwrap().0);
        writer.0.writable().await.unwrap();
        let written = poll_fn(|context| {
            let mut written = 0;
            while Pin::new(&mut writer).poll_write(context, b"x").is_ready() {
                written += 1;
            }
            Poll::Ready(written)
        });
        let written = written.await;
        assert!((1..=MOST).contains(&written), "{written} writes");
        assert_eq!(writer.0.try_write(&[b'x'; 8 * MOST]).unwrap(), 8 * MOST);
        // The next turn of the task.
        yield_now().await;
        reader.0.readable().await.unwrap();
        let read = poll_fn(|context| {
            let mut read = 0;
            let mut octet = [0];
            while Pin::new(&mut reader)
                .poll_read(context, &mut ReadBuf::new(&mut octet))
                .is_ready()
            {
                read += 1;
            }
            Poll::Ready(read)
        });
        let read = read.await;
        assert!((1..=MOST).contains(&read), "{read} reads");
    }

    /// How many calls tokio lets a task make at once.
    const MOST: usize = 128;
}
