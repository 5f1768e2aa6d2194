//! Takes one HTTP/2 request after another from a connection.
//!
//! Bounds what a client can hold without a request that runs: how long a header block may take to arrive, and how much
//! memory the heads of streams may take whose tasks have not run. A few bytes may refer to a large head, RFC 7541 §6.1.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::hpack::FieldLines;
use crate::http::http2_frames::{ConnectionError, RequestFrames};

/// Takes the requests of one connection.
pub(super) struct Acceptor {
    frames: Rc<RefCell<RequestFrames>>,
    head_timer: HeadTimer,
    /// Memory of the heads that were taken since other tasks could run.
    taken: usize,
}

/// What happens next on a connection.
pub(super) enum Next {
    Stream(FieldLines, RecvStream, SendResponse<Bytes>),
    /// The client has sent something that ends the connection.
    Error(ConnectionError),
    /// A header block has not arrived in time.
    HeadTimeout,
    End,
}

impl Acceptor {
    /// `limit`: how long a header block may take to arrive.
    pub(super) fn new(frames: Rc<RefCell<RequestFrames>>, limit: Duration) -> Self {
        Self {
            frames,
            head_timer: HeadTimer::new(limit),
            taken: 0,
        }
    }

    /// Returns what happens next. The caller must give each stream to a task of its own.
    pub(super) fn poll_next<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        connection: &mut Connection<S, Bytes>,
        context: &mut Context<'_>,
    ) -> Poll<Next> {
        if self.taken > MAX_TAKEN_HEADS {
            // A task holds its head until it runs for the first time, so those of the streams run first.
            self.taken = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, mut respond)))) => {
                    let stream = respond.stream_id().as_u32();
                    let Some(lines) = self.frames.borrow_mut().take_head(stream) else {
                        // Not reachable: every request that the h2 crate accepts is a substitute for a head.
                        respond.send_reset(Reason::INTERNAL_ERROR);
                        continue;
                    };
                    self.taken += lines.memory();
                    return Poll::Ready(Next::Stream(lines, request.into_body(), respond));
                }
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(Next::End),
                Poll::Pending => break,
            }
        }
        self.taken = 0;
        let mut frames = self.frames.borrow_mut();
        frames.resume_if_taken();
        if let Some(error) = frames.error() {
            return Poll::Ready(Next::Error(error));
        }
        self.head_timer
            .poll_elapsed(frames.unfinished_block(), context)
            .map(|()| Next::HeadTimeout)
    }
}

/// Limits how long a header block may take to arrive. No time is measured for a block that arrives at once.
struct HeadTimer {
    limit: Duration,
    /// The number of the block that is arriving.
    block: Option<u64>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl HeadTimer {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            block: None,
            sleep: None,
        }
    }

    /// Is ready when the limit of the block that is arriving has passed. `block`: its number.
    fn poll_elapsed(&mut self, block: Option<u64>, context: &mut Context<'_>) -> Poll<()> {
        let is_same = self.block == block;
        self.block = block;
        if block.is_none() {
            return Poll::Pending;
        }
        let deadline = || Instant::now() + self.limit;
        match &mut self.sleep {
            Some(sleep) if is_same => sleep.as_mut().poll(context),
            Some(sleep) => {
                sleep.as_mut().reset(deadline());
                sleep.as_mut().poll(context)
            }
            None => {
                let sleep = self.sleep.insert(Box::pin(sleep_until(deadline())));
                sleep.as_mut().poll(context)
            }
        }
    }
}

/// How much memory the heads of streams may take whose tasks have not run.
const MAX_TAKEN_HEADS: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::stream::Stream;
    use crate::server::http2::IoAdapter;

    #[tokio::test(start_paused = true)]
    async fn each_block_has_its_own_time() {
        let limit = Duration::from_secs(10);
        let mut timer = HeadTimer::new(limit);
        for (block, passes, want) in [
            (None, 60, false),
            (Some(1), 9, false),
            (Some(2), 9, false),
            (None, 60, false),
            (Some(3), 9, false),
            (Some(3), 2, true),
        ] {
            let start = std::future::poll_fn(|context| {
                Poll::Ready(timer.poll_elapsed(block, context).is_ready())
            });
            assert!(!start.await, "{block:?} begins");
            let elapsed = std::future::poll_fn(|context| timer.poll_elapsed(block, context));
            let elapsed = tokio::time::timeout(Duration::from_secs(passes), elapsed).await;
            assert_eq!(elapsed.is_ok(), want, "{block:?}");
        }
    }

    /// Each head takes some 60 kB, and 15 octets of a stream refer to it.
    #[tokio::test]
    async fn other_tasks_run_before_many_large_heads_are_taken() {
        const STREAMS: u32 = 40;
        const LENGTH: usize = 4000;
        let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
            [head.as_slice(), payload].concat()
        };
        // `x` is added to the table, RFC 7541 §6.2.1: its length is an integer with a prefix of seven bits, §5.1.
        let field = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; LENGTH]].concat();
        let head = [0x82, 0x86, 0x84];
        let first = [&head[..], &field].concat();
        let others = [&head[..], &[0xbe; 15]].concat();
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        sent.extend(frame(4, 0, 0, &[]));
        for number in 0..STREAMS {
            let block = if number == 0 { &first } else { &others };
            sent.extend(frame(1, 0x5, 2 * number + 1, block));
            // A frame of an unknown type: the heads of one read may not take much more.
            sent.extend(frame(77, 0, 0, &[0; 2000]));
        }

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        // All of it fits into the buffers of the kernel.
        client.write_all(&sent).await.unwrap();
        let frames = Rc::new(RefCell::new(RequestFrames::new(1 << 20)));
        let io = IoAdapter::new(None, Stream::plain(stream), Rc::clone(&frames));
        let handshake = h2::server::handshake(io);
        let mut connection: Connection<_, Bytes> = handshake.await.unwrap();
        let mut acceptor = Acceptor::new(frames, Duration::from_secs(600));
        let (mut streams, mut at_once, mut most, mut total) = (Vec::new(), 0, 0, 0);
        while streams.len() < STREAMS as usize {
            let next = std::future::poll_fn(|context| {
                let next = acceptor.poll_next(&mut connection, context);
                if next.is_pending() {
                    at_once = 0;
                }
                next
            });
            let Next::Stream(lines, body, respond) = next.await else {
                panic!("not a stream");
            };
            at_once += lines.memory();
            total += lines.memory();
            most = most.max(at_once);
            // Not dropped, which would reset the stream.
            streams.push((body, respond));
        }
        assert!(total > 39 * 15 * LENGTH, "{total} bytes in total");
        let largest = 16 * (LENGTH + 100);
        assert!(most <= MAX_TAKEN_HEADS + largest, "{most} bytes at once");
    }
}
