//! Sends bytes to a server on this machine and reads one response, with limits on size and time.
//!
//! An HTTP library would correct what the checks of the app send on purpose: repeated fields, Latin-1, long lines.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The field lines in order, names in lower case.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Returns the first value of a field, as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(other, _)| other == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// Returns the values of all lines of a field.
    pub(crate) fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        self.headers
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }
}

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

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        limited(self.stream.write_all(bytes)).await
    }

    /// Reads a response, informational ones except 101 left out. `has_body` is false after HEAD.
    pub(crate) async fn reply(&mut self, has_body: bool) -> io::Result<Reply> {
        loop {
            let mut reply = limited(self.head()).await?;
            if (100..200).contains(&reply.status) && reply.status != 101 {
                continue;
            }
            if has_body && reply.status != 101 && reply.status != 204 && reply.status != 304 {
                reply.body = limited(self.body(&reply)).await?;
            }
            return Ok(reply);
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

    async fn head(&mut self) -> io::Result<Reply> {
        loop {
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.buffer.drain(..end.saturating_add(4)).collect();
                return parse_head(&head)
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

    async fn body(&mut self, reply: &Reply) -> io::Result<Vec<u8>> {
        let length = reply
            .header("content-length")
            .and_then(|length| length.parse::<usize>().ok());
        let wanted = length.unwrap_or(MAX_BODY).min(MAX_BODY);
        let is_chunked = reply.header("transfer-encoding").is_some();
        // Requests ask to close the connection, so its end is the end of the body.
        while self.buffer.len() < wanted && !(is_chunked && self.buffer.ends_with(b"0\r\n\r\n")) {
            if self.fill().await? == 0 {
                break;
            }
        }
        let used = wanted.min(self.buffer.len());
        let body: Vec<u8> = self.buffer.drain(..used).collect();
        Ok(if is_chunked {
            without_chunks(&body)
        } else {
            body
        })
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// A frame of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Returns the first frame in a buffer, and its length.
    fn parse(buffer: &[u8]) -> Option<(Self, usize)> {
        let opcode = buffer.first()? & 0x0f;
        let short = usize::from(buffer.get(1)? & 0x7f);
        let (length, start) = match short {
            126 => (
                usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?)),
                4_usize,
            ),
            127 => (
                usize::try_from(u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?)).ok()?,
                10,
            ),
            length => (length, 2),
        };
        let end = start.checked_add(length)?;
        let payload = buffer.get(start..end)?.to_vec();
        Some((Self { opcode, payload }, end))
    }

    /// Returns the bytes of a frame of a client, masked with zeros.
    pub(crate) fn of_client(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len().min(125)).unwrap_or(125);
        let mut bytes = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
        bytes.extend(payload.iter().take(125));
        bytes
    }

    /// Returns the code of a close frame.
    pub(crate) fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk().filter(|_| self.opcode == 8)?;
        Some(u16::from_be_bytes(*code))
    }
}

/// Sends a request on a new connection and reads the response.
pub(crate) async fn exchange(
    to: SocketAddr,
    from: Option<IpAddr>,
    request: &[u8],
) -> io::Result<Reply> {
    let mut connection = Connection::open(to, from).await?;
    connection.send(request).await?;
    connection.reply(!request.starts_with(b"HEAD ")).await
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

fn parse_head(head: &[u8]) -> Option<Reply> {
    let mut lines = head
        .split(|octet| *octet == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = String::from_utf8_lossy(lines.next()?).into_owned();
    let status = start.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| {
            let colon = line.iter().position(|octet| *octet == b':')?;
            let (name, value) = line.split_at_checked(colon)?;
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            Some((name, value.get(1..)?.trim_ascii().to_vec()))
        })
        .collect();
    Some(Reply {
        status,
        headers,
        body: Vec::new(),
    })
}

/// Returns the content of a chunked body, as far as it is complete.
fn without_chunks(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = body
            .get(..end)
            .map(String::from_utf8_lossy)
            .unwrap_or_default();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .unwrap_or(0);
        let start = end.saturating_add(2);
        let Some(chunk) = body
            .get(start..start.saturating_add(size))
            .filter(|chunk| !chunk.is_empty())
        else {
            break;
        };
        content.extend_from_slice(chunk);
        body = body
            .get(start.saturating_add(size).saturating_add(2)..)
            .unwrap_or_default();
    }
    content
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

/// The protocol values that Streamlit's page sends: the protocol, no token, no session.
pub(crate) const PROTOCOLS: &str = "streamlit, PLACEHOLDER_AUTH_TOKEN";

const USER_AGENT: &str = concat!(
    "fluxlit-doctor/",
    env!("CARGO_PKG_VERSION"),
    " (checks its own gateway and Streamlit)"
);
const MAX_HEAD: usize = 64 * 1024;
const MAX_BODY: usize = 1024 * 1024;
const MAX_FRAME: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read() {
        let reply =
            parse_head(b"HTTP/1.1 101 Switching Protocols\r\nA: 1\r\na:  \xe9 \r\n\r\n").unwrap();
        assert_eq!(reply.status, 101);
        assert_eq!(
            reply.headers,
            [("a".into(), b"1".to_vec()), ("a".into(), b"\xe9".to_vec())]
        );
        assert_eq!(parse_head(b"SSH-2.0-x\r\n\r\n"), None);
    }

    #[test]
    fn chunks_are_joined() {
        let joined = |body: &[u8]| String::from_utf8(without_chunks(body)).unwrap();
        assert_eq!(joined(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), "abcde");
        assert_eq!(joined(b"3\r\nabc\r\nff\r\nd"), "abc");
        assert_eq!(joined(b""), "");
    }

    #[test]
    fn frames_are_read() {
        let close = Frame::parse(b"\x88\x02\x03\xf4rest").unwrap();
        assert_eq!(close.0.close_code(), Some(1012));
        assert_eq!(close.1, 4);
        assert_eq!(Frame::parse(b"\x88"), None);
        assert_eq!(Frame::parse(b"\x82\x7e\x00\x01"), None);
        let long = [&b"\x82\x7e\x00\x80"[..], &[7; 128]].concat();
        assert_eq!(Frame::parse(&long).unwrap().0.payload, [7; 128]);
        assert_eq!(Frame::of_client(2, b"ab"), b"\x82\x82\0\0\0\0ab");
    }
}
