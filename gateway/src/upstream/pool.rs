//! Keeps the connections of one worker to one upstream.
//!
//! The most recently used idle connection is taken first, unless it has been idle for too long: Streamlit's server closes idle
//! connections after five seconds, and may close one at the moment it is used.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::http::reader::Reader;
use crate::http::writer::Writer;
use crate::net::buffer::BufferPool;
use crate::net::stream::Stream;

/// The connections of a worker to one upstream.
pub(crate) struct Pool {
    authority: String,
    buffers: Rc<BufferPool>,
    idle: RefCell<Vec<(Connection, Instant)>>,
    open: Rc<Cell<usize>>,
}

/// A connection to an upstream.
pub(crate) struct Connection {
    stream: Rc<Stream>,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) is_reused: bool,
    _guard: OpenGuard,
}

/// Counts a connection as open until it is dropped.
struct OpenGuard(Rc<Cell<usize>>);

impl OpenGuard {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Pool {
    /// Creates a pool. `authority`: `host:port`.
    pub(crate) fn new(authority: String, buffers: Rc<BufferPool>) -> Self {
        Self {
            authority,
            buffers,
            idle: RefCell::default(),
            open: Rc::default(),
        }
    }

    /// Takes an idle connection that is still open. `now` may be a moment ago.
    pub(crate) fn take_idle(&self, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some((connection, since)) = idle.pop() {
            if now.saturating_duration_since(since) > MAX_IDLE_TIME {
                // The most recent one is too old, so all are.
                idle.clear();
                return None;
            }
            if connection.stream.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let stream = Stream::plain(TcpStream::connect(&self.authority).await?);
        Ok(Connection {
            reader: Reader::new(Rc::clone(&stream), Rc::clone(&self.buffers)),
            writer: Writer::new(Rc::clone(&stream)),
            stream,
            is_reused: false,
            _guard: OpenGuard::new(&self.open),
        })
    }

    /// Puts back a connection after an exchange, which has ended `now`.
    pub(crate) fn give_back(&self, mut connection: Connection, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        // Bytes that the upstream sends too early would be taken for the next response.
        if idle.len() < MAX_IDLE && connection.reader.bytes().is_empty() {
            connection.is_reused = true;
            idle.push((connection, now));
        }
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let is_old = |since: &Instant| now.saturating_duration_since(*since) > MAX_IDLE_TIME;
        let mut idle = self.idle.borrow_mut();
        let old = idle.partition_point(|(_, since)| is_old(since));
        idle.drain(..old);
    }

    /// Returns how many connections are idle, and how many are in use.
    pub(crate) fn count(&self) -> (usize, usize) {
        let idle = self.idle.borrow().len();
        (idle, self.open.get() - idle)
    }
}

/// How long an idle connection is kept: less than the five seconds of Streamlit's server.
const MAX_IDLE_TIME: Duration = Duration::from_secs(3);

/// Maximum number of idle connections to keep.
const MAX_IDLE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_taken_while_it_is_young() {
        let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let upstream = upstream.expect("a port");
        let address = upstream.local_addr().expect("an address").to_string();
        let pool = Pool::new(address, BufferPool::new(1024));
        let now = Instant::now();
        let moment = Duration::from_millis(1);
        for (age, is_taken) in [
            (Duration::ZERO, true),
            (MAX_IDLE_TIME, true),
            (MAX_IDLE_TIME + moment, false),
        ] {
            let connection = pool.connect().await.expect("a connection");
            let accepted = upstream.accept().await.expect("a connection");
            pool.give_back(connection, now);
            assert_eq!(pool.take_idle(now + age).is_some(), is_taken, "{age:?}");
            assert_eq!(pool.count(), (0, 0), "{age:?}");
            drop(accepted);
        }
        // It may have been given back after the moment of which the caller knows.
        let connection = pool.connect().await.expect("a connection");
        let _accepted = upstream.accept().await.expect("a connection");
        pool.give_back(connection, now + moment);
        assert!(pool.take_idle(now).is_some());
    }
}
