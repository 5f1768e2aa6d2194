//! Serves a client's HTTP/2 connection: reads and writes its socket, and gives each request to a task of its own.

use std::cell::RefCell;
use std::io::IoSlice;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::http::http2_connection::{Connection, Request};
use crate::http::http2_frame::ErrorCode;
use crate::net::buffer::{Buffer, BufferPool};
use crate::net::stream::Stream;
use crate::net::timer::Timer;
use crate::observe::HttpVersion;
use crate::proxy::failure::Rejection;
use crate::proxy::in_flight::record_unparsed;
use crate::server::connection::Accepted;
use crate::server::http2_head_timer::HeadTimer;
use crate::server::http2_stream::{self, StreamHandle};
use crate::worker::Worker;

/// Serves a connection until it ends. `early`: bytes that were read before the version was known.
pub(super) async fn serve(worker: &Rc<Worker>, accepted: Accepted, early: Option<Buffer>) {
    let limits = &worker.settings.limits;
    let mut timer = Timer::default();
    let accepted = Rc::new(accepted);
    let mut driver = Driver {
        connection: Rc::new(RefCell::new(Connection::new(limits.head_bytes))),
        stream: Rc::clone(&accepted.stream),
        buffers: Rc::clone(&worker.buffers),
        unread: early,
        head_timer: HeadTimer::new(limits.head_read),
        taken: 0,
        is_flushed: true,
        work: Work::Nothing,
    };
    let mut drain = pin!(worker.drain.wait());
    let mut is_ending = false;
    loop {
        let limit = if !is_ending {
            limits.keep_alive
        } else if driver.work == Work::Output {
            // As long as a client may take for a part of a response.
            limits.idle
        } else {
            DRAIN_PATIENCE
        };
        // With open streams the connection is not idle; the end of the last one is `WorkDone`.
        let is_idle = driver.work != Work::Streams;
        let next = std::future::poll_fn(|context| driver.poll_next(context));
        let next = async {
            if is_idle {
                timer.within(limit, next).await
            } else {
                Ok(next.await)
            }
        };
        let next = tokio::select! {
            next = next => next,
            () = &mut drain, if !is_ending => {
                is_ending = true;
                driver.drain();
                continue;
            }
        };
        match next {
            Ok(Next::Request(request)) => {
                let (worker, accepted) = (worker.current(), Rc::clone(&accepted));
                let stream = StreamHandle::new(request.stream, Rc::clone(&driver.connection));
                tokio::task::spawn_local(async move {
                    // On the heap at once, because tokio moves a task several times before and after it runs.
                    Box::pin(http2_stream::serve(&worker, &accepted, request, stream)).await;
                });
            }
            Ok(Next::WorkDone) => {}
            Ok(Next::Done) => return driver.finish(limits.idle, &mut timer).await,
            Ok(Next::End) => return,
            Ok(Next::Error(error)) => {
                tracing::debug!(?error, "an HTTP/2 connection is ended");
                return driver.close(&mut timer).await;
            }
            // Nothing else may be sent before the rest of the block, RFC 9113 §4.3, so no stream can go on.
            Ok(Next::HeadTimeout) => {
                let Rejection { reason, status, .. } = Rejection::head_timeout();
                let version = Some(HttpVersion::Http2);
                record_unparsed(worker, "", accepted.peer, version, status, reason);
                return driver.fail(ErrorCode::EnhanceYourCalm, &mut timer).await;
            }
            // No new stream for a while, but some are open, so the connection is not idle.
            Err(_) if driver.connection.borrow().has_streams() => {}
            Err(_) if is_ending && driver.work == Work::Output => {
                return driver.fail(ErrorCode::None, &mut timer).await;
            }
            Err(_) if is_ending => {
                // A live client has acknowledged the last ping by now, and that would have ended the connection, or it still
                // reads what was sent before.
                driver.connection.borrow_mut().fail(ErrorCode::None);
                return driver.finish(limits.idle, &mut timer).await;
            }
            Err(_) => {
                is_ending = true;
                driver.drain();
            }
        }
    }
}

/// Moves bytes between a connection's socket and its state.
struct Driver {
    connection: Rc<RefCell<Connection>>,
    stream: Rc<Stream>,
    buffers: Rc<BufferPool>,
    /// Bytes that were read and not processed; never empty.
    unread: Option<Buffer>,
    head_timer: HeadTimer,
    /// Memory of the heads that were taken since other tasks could run.
    taken: usize,
    /// True if all that was written has left for the kernel.
    is_flushed: bool,
    /// What was left to do when this was polled last.
    work: Work,
}

/// What is left to do on a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Nothing,
    /// No stream is open, but not all was written.
    Output,
    Streams,
}

/// What happens next on a connection.
enum Next {
    Request(Request),
    /// The last stream has ended, or what it has sent was written.
    WorkDone,
    /// The client has sent something that ends the connection.
    Error(ErrorCode),
    /// A header block has not arrived in time.
    HeadTimeout,
    /// The drain has ended: the client knows of it, and all requests have ended.
    Done,
    /// The client has closed the connection, or it is broken.
    End,
}

impl Driver {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let shared = Rc::clone(&self.connection);
        let connection = &mut *shared.borrow_mut();
        loop {
            if self.taken > MAX_TAKEN_HEADS {
                // A task holds its head until it runs for the first time, so those of the streams run first.
                self.taken = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(request) = connection.next_request() {
                self.taken += request.lines.memory();
                self.work = Work::Streams;
                return Poll::Ready(Next::Request(request));
            }
            if let Some(error) = connection.error() {
                return Poll::Ready(Next::Error(error));
            }
            if self.process(connection) {
                continue;
            }
            if !connection.must_pause() {
                match self.poll_read(context) {
                    Poll::Ready(true) => continue,
                    Poll::Ready(false) => return Poll::Ready(Next::End),
                    Poll::Pending => {}
                }
            }
            let was_paused = connection.must_pause();
            match self.poll_write(connection, context) {
                Poll::Ready(false) => return Poll::Ready(Next::End),
                // What was written may have been what kept it from reading.
                Poll::Ready(true) if was_paused => {}
                Poll::Pending if was_paused && !connection.must_pause() => {}
                Poll::Ready(true) | Poll::Pending => break,
            }
        }
        self.taken = 0;
        let work = if connection.has_streams() {
            Work::Streams
        } else if !self.is_flushed || !connection.output().is_empty() {
            Work::Output
        } else {
            Work::Nothing
        };
        if work == Work::Nothing && connection.is_done() {
            return Poll::Ready(Next::Done);
        }
        if std::mem::replace(&mut self.work, work) > work {
            if work == Work::Nothing {
                connection.shrink();
            }
            return Poll::Ready(Next::WorkDone);
        }
        connection.wait(context);
        self.head_timer
            .poll_elapsed(connection.awaited_block(), context)
            .map(|()| Next::HeadTimeout)
    }

    /// Tells the client to open no more streams.
    fn drain(&mut self) {
        self.connection.borrow_mut().drain();
        self.work = self.work.max(Work::Output);
    }

    /// Processes the bytes that were read. Returns true if some could be.
    fn process(&mut self, connection: &mut Connection) -> bool {
        let Some(unread) = &mut self.unread else {
            return false;
        };
        let count = connection.receive(unread);
        unread.consume(count);
        if unread.is_empty() {
            self.unread = None;
        }
        count > 0 || connection.error().is_some()
    }

    /// Reads more bytes. Returns false at the end of the connection.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut buffer = match self.unread.take() {
            Some(unread) => unread,
            None => self.buffers.lend(),
        };
        let read = self.stream.poll_fill(context, &mut buffer);
        let has_read = read.map(|result| result.is_ok_and(|count| count > 0));
        self.unread = Some(buffer).filter(|buffer| !buffer.is_empty());
        has_read
    }

    /// Writes the output. Returns false if the connection is broken.
    fn poll_write(&mut self, connection: &mut Connection, context: &mut Context<'_>) -> Poll<bool> {
        while !connection.output().is_empty() {
            let parts = [IoSlice::new(connection.output())];
            match self.stream.poll_write(context, &parts) {
                Poll::Ready(Ok(count @ 1..)) => {
                    self.is_flushed = false;
                    connection.written(count);
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.is_flushed {
            return Poll::Ready(true);
        }
        self.stream.poll_flush(context).map(|result| {
            self.is_flushed = result.is_ok();
            self.is_flushed
        })
    }

    /// Ends the connection with an error, or with [`ErrorCode::None`].
    async fn fail(&mut self, error: ErrorCode, timer: &mut Timer) {
        self.connection.borrow_mut().fail(error);
        self.close(timer).await;
    }

    /// Closes a connection on which nothing is left to do. The kernel may still send the last response, and a client that
    /// reads it slowly enlarges its windows meanwhile, so this takes longer than [`Driver::close`].
    async fn finish(&mut self, limit: Duration, timer: &mut Timer) {
        let mut pause = Timer::default();
        let discard = async {
            if !self.write_all().await || self.stream.shutdown().await.is_err() {
                return;
            }
            loop {
                self.unread = None;
                let read = std::future::poll_fn(|context| self.poll_read(context));
                if pause.within(LINGER, read).await != Ok(true) {
                    return;
                }
            }
        };
        let _ = timer.within(limit, discard).await;
    }

    /// Writes what is left. Returns false if the connection is broken.
    async fn write_all(&mut self) -> bool {
        let connection = Rc::clone(&self.connection);
        std::future::poll_fn(|context| self.poll_write(&mut connection.borrow_mut(), context)).await
    }

    /// Sends what is left and closes the connection. What the client still sends is discarded, because closing a socket with
    /// unread bytes resets the connection, and the client might not see why.
    async fn close(&mut self, timer: &mut Timer) {
        self.unread = None;
        let close = async {
            if !self.write_all().await || self.stream.shutdown().await.is_err() {
                return;
            }
            while std::future::poll_fn(|context| self.poll_read(context)).await {
                self.unread = None;
            }
        };
        let _ = timer.within(DRAIN_PATIENCE, close).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.connection.borrow_mut().end();
    }
}

/// How much memory the heads of streams may take whose tasks have not run.
const MAX_TAKEN_HEADS: usize = 256 * 1024;

/// How long a client that reads the last response may send nothing.
const LINGER: Duration = Duration::from_secs(2);

/// How long a connection without streams is kept after GOAWAY.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
