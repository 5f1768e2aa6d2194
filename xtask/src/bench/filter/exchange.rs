//! Sends the measured requests through Envoy, and serves the upstream.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use fluxlit_envoy::MOUNT;

use super::variants::DIRECT;
use crate::bench::{BROWSER, local};

/// One unit of load: what is sent and what comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Workload {
    /// A request of a browser, to which Envoy responds itself: the filter's share is not lost in that of the upstream.
    Direct,
    /// The same request, to which an app responds with a redirect and cookies.
    Request,
    /// A WebSocket frame to the upstream and back, on an open connection.
    Frame,
    /// A request with a body of 1 MiB.
    Body,
}

impl Workload {
    pub(super) const ALL: [Self; 4] = [Self::Direct, Self::Request, Self::Frame, Self::Body];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "request that Envoy responds to itself",
            Self::Request => "request that an app responds to with a redirect and cookies",
            Self::Frame => "WebSocket frame and its echo",
            Self::Body => "request with a body of 1 MiB",
        }
    }

    /// Returns the number of repetitions in a round of `requests` requests.
    pub(super) fn repetitions(self, requests: u32) -> u32 {
        match self {
            Self::Direct | Self::Request | Self::Frame => requests,
            Self::Body => (requests / 20).max(1),
        }
    }

    /// Opens a connection for this workload.
    pub(super) fn connect(self, address: SocketAddr) -> anyhow::Result<TcpStream> {
        let mut connection = connect(address)?;
        if self == Self::Frame {
            connection.write_all(request("GET", STREAM, HANDSHAKE).as_bytes())?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                read_some(&mut connection, &mut head)?;
            }
            ensure!(
                head.starts_with(b"HTTP/1.1 101 "),
                "no WebSocket: {}",
                String::from_utf8_lossy(&head)
            );
        }
        Ok(connection)
    }

    /// Returns the bytes to send.
    pub(super) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Direct => request("GET", DIRECT, "").into_bytes(),
            Self::Request => request("GET", STREAM, "").into_bytes(),
            Self::Frame => FRAME.to_vec(),
            Self::Body => {
                let head = request("POST", STREAM, &format!("Content-Length: {BODY}\r\n"));
                [head.as_bytes(), &vec![b'x'; BODY]].concat()
            }
        }
    }

    /// Reads what comes back.
    pub(super) fn read(
        self,
        connection: &mut TcpStream,
        response: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        if self != Self::Frame {
            return read_response(connection, response);
        }
        response.clear();
        while response.len() < FRAME.len() {
            read_some(connection, response)?;
        }
        Ok(())
    }
}

pub(super) fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let connection = TcpStream::connect(address)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(RESPONSE_LIMIT))?;
    Ok(connection)
}

/// Reads one response with a `Content-Length`.
pub(super) fn read_response(
    connection: &mut TcpStream,
    response: &mut Vec<u8>,
) -> anyhow::Result<()> {
    response.clear();
    while !is_complete(response) {
        read_some(connection, response)?;
    }
    if !response.starts_with(b"HTTP/1.1 200 ") {
        bail!("unexpected response: {}", String::from_utf8_lossy(response));
    }
    Ok(())
}

fn read_some(connection: &mut TcpStream, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut chunk = [0; 4096];
    let length = connection.read(&mut chunk).context("no response")?;
    ensure!(length > 0, "Envoy closed the connection");
    bytes.extend_from_slice(&chunk[..length]);
    Ok(())
}

fn is_complete(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    text.split_once("\r\n\r\n")
        .is_some_and(|(head, body)| content_length(head).is_some_and(|length| body.len() >= length))
}

fn content_length(head: &str) -> Option<usize> {
    head.lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|length| length.parse().ok())
}

/// Serves requests on a free port as long as this process lives.
pub(super) fn serve_upstream() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(local(0)).context("no free port for the upstream")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // Fails when Envoy closes the connection.
                let _ = serve(stream);
            });
        }
    });
    Ok(address)
}

/// Sends the same response to each request, or the request itself if it asks for that. After a WebSocket handshake, it sends
/// everything back.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let usual = response("ok");
    let mut received = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        received.extend_from_slice(&chunk[..length]);
        let Some(end) = received.windows(4).position(|octets| octets == b"\r\n\r\n") else {
            continue;
        };
        let (head, body) = received.split_at(end + 4);
        let head = String::from_utf8_lossy(head).into_owned();
        if head.contains("upgrade: websocket") {
            stream.write_all(SWITCHING.as_bytes())?;
            return echo(stream, &mut chunk);
        }
        // A body is counted, not stored.
        let mut left = content_length(&head)
            .unwrap_or(0)
            .saturating_sub(body.len());
        while left > 0 {
            let length = stream.read(&mut chunk)?;
            if length == 0 {
                return Ok(());
            }
            left = left.saturating_sub(length);
        }
        if head.lines().any(|line| line == ECHO.trim_end()) {
            stream.write_all(response(&head).as_bytes())?;
        } else {
            stream.write_all(usual.as_bytes())?;
        }
        received.clear();
    }
}

fn echo(mut stream: TcpStream, chunk: &mut [u8]) -> std::io::Result<()> {
    loop {
        let length = stream.read(chunk)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&chunk[..length])?;
    }
}

/// Builds a request of a browser with two forged fields, and `more` field lines at the end.
pub(super) fn request(method: &str, path: &str, more: &str) -> String {
    let mut lines = vec![format!("{method} {MOUNT}{path}?x=1 HTTP/1.1")];
    lines.extend(BROWSER.map(str::to_owned));
    lines.extend(["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"].map(str::to_owned));
    format!("{}\r\n{more}\r\n", lines.join("\r\n"))
}

/// Builds the response of an app that does not know its mount.
fn response(body: &str) -> String {
    let lines = [
        "HTTP/1.1 200 OK".to_owned(),
        "Content-Type: text/plain".to_owned(),
        "Cache-Control: no-cache".to_owned(),
        "Location: /login?next=1".to_owned(),
        "Set-Cookie: _streamlit_xsrf=2|7586241e|47c8c1d6a2|1700000000; Path=/; SameSite=Lax"
            .to_owned(),
        "Set-Cookie: session=0123456789abcdef; HttpOnly; Path=/files".to_owned(),
        format!("Content-Length: {}", body.len()),
    ];
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

/// A path of the app, without the mount.
pub(super) const STREAM: &str = "/_stcore/stream";

/// A field that makes the upstream send back the request it received.
pub(super) const ECHO: &str = "x-bench: echo\r\n";

/// The time limit of any response.
pub(super) const RESPONSE_LIMIT: Duration = Duration::from_secs(10);

/// The size of a large body.
const BODY: usize = 1 << 20;

/// A masked binary frame with 20 octets, RFC 6455 §5.2.
const FRAME: &[u8; 26] = b"\x82\x94\0\0\0\0twenty octets here..";

/// The fields of a WebSocket handshake.
const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Accepts the handshake: neither Envoy nor the load checks the key.
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
