//! How does the load open WebSockets, and stream bodies?
//!
//! Blocking, one after the other; `wrk` does what must be fast.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::MOUNT;

use super::frame;
use super::origin::{DOWNLOAD, STREAMED, UPLOAD, WEBSOCKET};

/// An open WebSocket.
pub(super) struct WebSocket(BufReader<TcpStream>);

impl WebSocket {
    pub(super) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = connect(address)?;
        // The key is the example of RFC 6455 §1.3; who accepts it is not in question here.
        write!(
            stream,
            "GET {MOUNT}/{WEBSOCKET} HTTP/1.1\r\nHost: portal.example.com\r\nOrigin: http://portal.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: streamlit\r\n\r\n"
        )?;
        let mut reader = BufReader::with_capacity(4096, stream);
        let head = read_head(&mut reader)?;
        ensure!(
            head.starts_with("HTTP/1.1 101 "),
            "no WebSocket was opened: {head}"
        );
        Ok(Self(reader))
    }

    /// Sends a frame as it is.
    pub(super) fn send(&mut self, frame: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(frame)
    }

    /// Waits for an answer of this many octets, which may come in several frames.
    pub(super) fn receive(&mut self, length: usize, payload: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut received = 0;
        while received < length {
            match frame::read(&mut self.0, payload)? {
                frame::PING | frame::PONG => {}
                frame::CLOSE => {
                    anyhow::bail!("closed: {:?}", String::from_utf8_lossy(payload));
                }
                _ => received += payload.len(),
            }
        }
        ensure!(received == length, "another message came back");
        Ok(())
    }
}

/// Takes [`STREAMED`] octets from the origin.
pub(super) fn download(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = connect(address)?;
    write!(
        stream,
        "GET {MOUNT}/{DOWNLOAD} HTTP/1.1\r\nHost: portal.example.com\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream);
    let head = read_head(&mut reader)?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "no download: {head}");
    let mut body = reader.take(STREAMED);
    let read = std::io::copy(&mut body, &mut std::io::sink())?;
    ensure!(read == STREAMED, "the download was cut off after {read}");
    Ok(())
}

/// Brings [`STREAMED`] octets to the origin.
pub(super) fn upload(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = connect(address)?;
    write!(
        stream,
        "POST {MOUNT}/{UPLOAD} HTTP/1.1\r\nHost: portal.example.com\r\nContent-Length: {STREAMED}\r\n\r\n"
    )?;
    std::io::copy(&mut std::io::repeat(b'a').take(STREAMED), &mut stream)
        .context("the upload was cut off")?;
    let head = read_head(&mut BufReader::new(stream))?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "no upload: {head}");
    Ok(())
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
}

/// Reads up to the empty line.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            break;
        }
    }
    Ok(head)
}

/// How long a proxy may be silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
