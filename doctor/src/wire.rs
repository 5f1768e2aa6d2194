//! Sends bytes to a server on this machine and reads one response, with limits on size and time.
//!
//! An HTTP library would correct what the checks of the app send on purpose: repeated fields, Latin-1, long lines.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::client::{Frame, Framing, Response, has_last_chunk, without_chunks};

/// A connection, and what was read from it beyond the last response.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects, from this local address if there is one.
    pub(crate) async fn open(to: SocketAddr, from: Option<IpAddr>) -> io::Result<Self> {
        let connect = async {
            match from {
                None => TcpStream::connect(to).await,
                Some(own) => {
                    let socket = if to.is_ipv4() {
                        TcpSocket::new_v4()?
                    } else {
                        TcpSocket::new_v6()?
                    };
                    socket.bind(SocketAddr::new(own, 0))?;
                    socket.connect(to).await
                }
            }
        };
        let stream = limited(connect).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Connects and opens a WebSocket with this handshake.
    pub(crate) async fn open_websocket(to: SocketAddr, handshake: &[u8]) -> io::Result<Self> {
        let mut connection = Self::open(to, None).await?;
        connection.send(handshake).await?;
        match connection.response_head().await?.status {
            101 => Ok(connection),
            status => {
                let text = format!("the handshake is answered with {status}");
                Err(io::Error::other(text))
            }
        }
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        limited(self.stream.write_all(bytes)).await
    }

    /// Reads the response to a request with this method.
    pub(crate) async fn response(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.response_head().await?;
        response.body = limited(self.body(response.framing(method))).await?;
        Ok(response)
    }

    /// Reads the head of a response, informational ones except 101 left out.
    pub(crate) async fn response_head(&mut self) -> io::Result<Response> {
        loop {
            let response = limited(self.head()).await?;
            if !(100..200).contains(&response.status) || response.status == 101 {
                return Ok(response);
            }
        }
    }

    /// Returns true if a byte has arrived within this time.
    pub(crate) async fn has_answer_within(&mut self, time: Duration) -> bool {
        timeout(time, self.fill())
            .await
            .is_ok_and(|read| read.is_ok_and(|read| read > 0))
    }

    /// Reads one WebSocket frame of a server; `None` at the end of the connection.
    pub(crate) async fn frame(&mut self, limit: Duration) -> io::Result<Option<Frame>> {
        let read = async {
            loop {
                if let Some((frame, used)) = Frame::parse(&self.buffer) {
                    self.buffer.drain(..used);
                    return Ok(Some(frame));
                }
                if self.buffer.len() > MAX_FRAME {
                    return Err(io::Error::other("the frame is too long"));
                }
                if self.fill().await? == 0 {
                    return Ok(None);
                }
            }
        };
        timeout(limit, read)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn head(&mut self) -> io::Result<Response> {
        loop {
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.buffer.drain(..end.saturating_add(4)).collect();
                return Response::parse(&head)
                    .ok_or_else(|| io::Error::other("the response is not HTTP"));
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(io::Error::other("the response head is too long"));
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads a body; requests ask to close the connection, so its end is the end of a body without a length.
    async fn body(&mut self, framing: Framing) -> io::Result<Vec<u8>> {
        let is_complete = |buffer: &[u8]| match framing {
            Framing::None => true,
            Framing::Length(length) => buffer.len() >= length,
            Framing::Chunked => has_last_chunk(buffer),
            Framing::UntilClosed => false,
        };
        while !is_complete(&self.buffer) && self.buffer.len() < MAX_BODY {
            if self.fill().await? == 0 {
                break;
            }
        }
        Ok(match framing {
            Framing::None => Vec::new(),
            Framing::Length(length) => self.buffer.drain(..length.min(self.buffer.len())).collect(),
            Framing::Chunked => without_chunks(&std::mem::take(&mut self.buffer)),
            Framing::UntilClosed => std::mem::take(&mut self.buffer),
        })
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// Sends a request on a new connection and reads the response.
pub(crate) async fn exchange(
    to: SocketAddr,
    from: Option<IpAddr>,
    request: &[u8],
) -> io::Result<Response> {
    let mut connection = Connection::open(to, from).await?;
    connection.send(request).await?;
    let is_head = request.starts_with(b"HEAD ");
    connection
        .response(if is_head { "HEAD" } else { "GET" })
        .await
}

/// Writes a request without a body, which closes the connection after the response.
pub(crate) fn request(method: &str, target: &str, host: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n"
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Writes a WebSocket handshake. The key is that of RFC 6455 1.3.
pub(crate) fn handshake(target: &str, host: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

async fn limited<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(LIMIT, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no answer within 30 s",
        ))
    })
}

/// The time limit of each step. Everything is on this machine; a shorter one would fail if the machine is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

const USER_AGENT: &str = concat!(
    "fluxlit-doctor/",
    env!("CARGO_PKG_VERSION"),
    " (checks its own gateway and Streamlit)"
);
const MAX_HEAD: usize = 64 * 1024;
const MAX_BODY: usize = 1024 * 1024;
const MAX_FRAME: usize = 8 * 1024 * 1024;
