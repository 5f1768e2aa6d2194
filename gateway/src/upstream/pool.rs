//! Where do connections to an upstream come from?
//!
//! Each worker keeps its own and shares them with nobody. The newest idle one is used first, and none that has been idle
//! for more than a moment: Streamlit's server closes idle connections after five seconds, and a connection may be closed
//! at the very moment it is used.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::http::reader::Reader;
use crate::http::writer::Writer;
use crate::net::buffer::Buffers;
use crate::net::stream::Io;

/// A worker's connections to one upstream.
pub(crate) struct Pool {
    authority: String,
    buffers: Rc<Buffers>,
    idle: RefCell<Vec<(Connection, Instant)>>,
    open: Rc<Cell<usize>>,
}

/// A connection to an upstream.
pub(crate) struct Connection {
    io: Rc<Io>,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) is_reused: bool,
    _counted: Counted,
}

/// Counts a connection until it is dropped.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Pool {
    /// `authority` is `host:port`.
    pub(crate) fn new(authority: String, buffers: Rc<Buffers>) -> Self {
        Self {
            authority,
            buffers,
            idle: RefCell::default(),
            open: Rc::default(),
        }
    }

    /// An idle connection that nothing has happened on.
    pub(crate) fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some((connection, since)) = idle.pop() {
            if since.elapsed() > IDLE_LIMIT {
                // The newest is too old, so all are.
                idle.clear();
                return None;
            }
            if connection.io.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let io = Io::plain(TcpStream::connect(&self.authority).await?);
        Ok(Connection {
            reader: Reader::new(Rc::clone(&io), Rc::clone(&self.buffers)),
            writer: Writer::new(Rc::clone(&io)),
            io,
            is_reused: false,
            _counted: Counted::new(&self.open),
        })
    }

    /// Takes back a connection whose exchange is over.
    pub(crate) fn give_back(&self, mut connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        // What the upstream sends unasked is no answer to the next request.
        if idle.len() < IDLE_MOST && connection.reader.bytes().is_empty() {
            connection.is_reused = true;
            idle.push((connection, Instant::now()));
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self) {
        let mut idle = self.idle.borrow_mut();
        let old = idle.partition_point(|(_, since)| since.elapsed() > IDLE_LIMIT);
        idle.drain(..old);
    }

    /// How many connections are idle, and how many are in use.
    pub(crate) fn count(&self) -> (usize, usize) {
        let idle = self.idle.borrow().len();
        (idle, self.open.get() - idle)
    }
}

/// Longest time a connection is kept without use: below the five seconds of Streamlit's server.
const IDLE_LIMIT: Duration = Duration::from_secs(3);

/// Most idle connections a worker keeps.
const IDLE_MOST: usize = 512;
