//! Serves as the upstream of the counted exchanges, and responds only while the program waits for it.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fluxlit_support::http1::{Kind, read_body_blocking, read_head_blocking};
use fluxlit_support::upstream;
use sha1::{Digest, Sha1};

/// A running upstream.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    pub(super) turn: Turn,
    /// The WebSockets that were opened.
    sockets: Receiver<TcpStream>,
}

/// Tells when it is the turn of client or upstream: when the program waits.
#[derive(Clone, Default)]
pub(super) struct Turn(Arc<OnceLock<PathBuf>>);

impl Origin {
    pub(super) fn serve() -> anyhow::Result<Self> {
        let turn = Turn::default();
        let (opened, sockets) = channel();
        let waits = turn.clone();
        let address = upstream::serve(move |reader| {
            // The program closes its connections when it ends, which is not a failure.
            let _ = serve_connection(reader, &waits, &opened);
        });
        Ok(Self {
            address: address.context("no free port for the upstream")?,
            turn,
            sockets,
        })
    }

    /// From now on, responses wait until this thread of the program waits for them. `thread`: its folder in `/proc`.
    pub(super) fn watch(&self, thread: &Path) {
        // Called once.
        let _ = self.turn.0.set(thread.join("syscall"));
    }

    /// Returns the upstream's side of the WebSocket that was opened last.
    pub(super) fn socket(&mut self) -> anyhow::Result<TcpStream> {
        let socket = self.sockets.recv_timeout(LIMIT);
        socket.context("no WebSocket was opened at the upstream")
    }
}

impl Turn {
    /// Waits until the program waits for an event. Must be called after something that the program has sent arrived, so that
    /// it has noticed everything that was sent to it before.
    pub(super) fn wait(&self) -> anyhow::Result<()> {
        let Some(path) = self.0.get() else {
            return Ok(());
        };
        let deadline = Instant::now() + LIMIT;
        loop {
            let call = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            if WAITS.contains(&call.split(' ').next().unwrap_or_default()) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the program does not wait for an event, but is in {call}"
            );
            std::thread::yield_now();
        }
    }
}

fn serve_connection(
    reader: &mut BufReader<TcpStream>,
    turn: &Turn,
    opened: &Sender<TcpStream>,
) -> anyhow::Result<()> {
    reader.get_ref().set_nodelay(true)?;
    while let Some(head) = read_head_blocking(reader)? {
        if let [key] = head.values("sec-websocket-key")[..] {
            // The constant of RFC 6455 §4.2.2.
            let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
            let accept = STANDARD.encode(accept);
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\nsec-websocket-protocol: streamlit\r\n\r\n"
            );
            turn.wait()?;
            reader.get_ref().write_all(head.as_bytes())?;
            opened.send(reader.get_ref().try_clone()?)?;
            return Ok(());
        }
        // A health check is made by another thread of the gateway than the one that is counted.
        if head.word(1).ends_with("/_stcore/health") {
            reader
                .get_ref()
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            continue;
        }
        read_body_blocking(reader, &head, Kind::Request);
        turn.wait()?;
        reader.get_ref().write_all(&response())?;
    }
    Ok(())
}

/// A response as Streamlit sends it, with [`BODY`] bytes.
fn response() -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nServer: uvicorn\r\nContent-Type: text/html\r\nAccept-Ranges: bytes\r\nContent-Length: {BODY}\r\nLast-Modified: Tue, 24 Nov 2026 08:00:00 GMT\r\nEtag: \"6744d3a1-400\"\r\nDate: Thu, 26 Nov 2026 08:00:00 GMT\r\nCache-Control: no-cache\r\nVary: Accept-Encoding\r\n\r\n"
    )
    .into_bytes();
    response.resize(response.len() + BODY, b'a');
    response
}

/// Bytes of a body.
pub(super) const BODY: usize = 1024;

/// How long anything may take.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// `epoll_wait` and `epoll_pwait` of x86-64.
const WAITS: [&str; 2] = ["232", "281"];
