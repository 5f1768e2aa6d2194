//! Opens WebSockets and streams bodies through a proxy.
//!
//! It is blocking and sequential; `wrk` generates the load that must be fast.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::MOUNT;
use fluxlit_support::http1::read_head_blocking;

use super::frame;
use super::origin::{DOWNLOAD, STREAMED, UPLOAD, WEBSOCKET};

/// An open WebSocket.
pub(super) struct WebSocket(BufReader<TcpStream>);

impl WebSocket {
    pub(super) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = connect(address)?;
        // The key is the example of RFC 6455 §1.3; the response's Sec-WebSocket-Accept is not checked.
        write!(
            stream,
            "GET {MOUNT}/{WEBSOCKET} HTTP/1.1\r\nHost: portal.example.com\r\nOrigin: http://portal.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: streamlit\r\n\r\n"
        )?;
        let mut reader = BufReader::with_capacity(4096, stream);
        expect_status(&mut reader, "101").context("the WebSocket handshake failed")?;
        Ok(Self(reader))
    }

    /// Sends an encoded frame.
    pub(super) fn send(&mut self, frame: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(frame)
    }

    /// Waits for a message of this many bytes, which may arrive in several frames.
    pub(super) fn receive(&mut self, length: usize, payload: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut received = 0;
        while received < length {
            match frame::read(&mut self.0, payload)? {
                frame::PING | frame::PONG => {}
                frame::CLOSE => {
                    anyhow::bail!(
                        "the peer closed the WebSocket: {:?}",
                        String::from_utf8_lossy(payload)
                    );
                }
                _ => received += payload.len(),
            }
        }
        ensure!(
            received == length,
            "the echoed message has a different length"
        );
        Ok(())
    }
}

/// Downloads [`STREAMED`] bytes from the origin.
pub(super) fn download(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = connect(address)?;
    write!(
        stream,
        "GET {MOUNT}/{DOWNLOAD} HTTP/1.1\r\nHost: portal.example.com\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream);
    expect_status(&mut reader, "200").context("the download failed")?;
    let mut body = reader.take(STREAMED);
    let read = std::io::copy(&mut body, &mut std::io::sink())?;
    ensure!(read == STREAMED, "the download ended after {read} bytes");
    Ok(())
}

/// Uploads [`STREAMED`] bytes to the origin.
pub(super) fn upload(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = connect(address)?;
    write!(
        stream,
        "POST {MOUNT}/{UPLOAD} HTTP/1.1\r\nHost: portal.example.com\r\nContent-Length: {STREAMED}\r\n\r\n"
    )?;
    std::io::copy(&mut std::io::repeat(b'a').take(STREAMED), &mut stream)
        .context("the upload was interrupted")?;
    expect_status(&mut BufReader::new(stream), "200").context("the upload failed")
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    stream.set_write_timeout(Some(SILENCE_LIMIT))?;
    Ok(stream)
}

/// Reads the head of a response, and fails unless it has this status.
fn expect_status(reader: &mut BufReader<TcpStream>, status: &str) -> anyhow::Result<()> {
    let head = read_head_blocking(reader)?.unwrap_or_default();
    ensure!(head.word(1) == status, "the response is {head:?}");
    Ok(())
}

/// Maximum time without a byte from the proxy.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
