//! Echoes WebSocket messages, accepts uploads and serves downloads, as the origin of the benchmarks.
//!
//! Each connection has a thread, on the core of the load. It does not validate its input, because all requests come
//! from our own load generator through the proxies.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fluxlit_support::http1::read_head_blocking;
use sha1::{Digest, Sha1};

use super::frame;
use crate::bench::local;

/// Ends of the paths; every other path gets the response `ok`, like Streamlit's health check.
pub(super) const DOWNLOAD: &str = "download";
pub(super) const UPLOAD: &str = "upload";
/// Streamlit's own WebSocket path, because FluxLit forwards no other.
pub(super) const WEBSOCKET: &str = "_stcore/stream";

/// Bytes of a download and of an upload.
pub(super) const STREAMED: u64 = 2 << 30;

/// Serves on a free port until this process ends.
pub(super) fn serve() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(local(0)).context("no free port for the origin")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let thread = std::thread::Builder::new().stack_size(STACK);
            // If no thread can be started, the connection closes and the load generator reports it.
            let _ = thread.spawn(move || {
                // A proxy closes its connections when it ends, which is not a failure.
                let _ = serve_connection(stream);
            });
        }
    });
    Ok(address)
}

fn serve_connection(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(4096, stream.try_clone()?);
    while let Some(head) = read_head_blocking(&mut reader)? {
        if let [key] = head.values("sec-websocket-key")[..] {
            return echo(reader, stream, key);
        }
        if head.word(1).ends_with(DOWNLOAD) {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {STREAMED}\r\n\r\n"
            )?;
            std::io::copy(&mut std::io::repeat(b'a').take(STREAMED), &mut stream)?;
            continue;
        }
        let length = head.values("content-length");
        let length = length.first().and_then(|length| length.parse().ok());
        let mut body = reader.by_ref().take(length.unwrap_or(0));
        std::io::copy(&mut body, &mut std::io::sink())?;
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok",
        )?;
    }
    Ok(())
}

fn echo(mut reader: impl Read, mut stream: TcpStream, key: &str) -> std::io::Result<()> {
    // The constant of RFC 6455 §4.2.2.
    let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {}\r\nsec-websocket-protocol: streamlit\r\n\r\n",
        STANDARD.encode(accept)
    )?;
    let (mut payload, mut response) = (Vec::new(), Vec::new());
    loop {
        let first = frame::read(&mut reader, &mut payload)?;
        let reply = match first {
            frame::PING => frame::PONG,
            frame::PONG => continue,
            first => first,
        };
        frame::write(reply, &payload, false, &mut response);
        stream.write_all(&response)?;
        if first == frame::CLOSE {
            return Ok(());
        }
    }
}

/// Small, because thousands of threads wait at the same time.
const STACK: usize = 64 << 10;
