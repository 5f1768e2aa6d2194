//! Lists the exchanges that are counted, and carries out one after another.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use anyhow::{Context, ensure};
use fluxlit_envoy::MOUNT;
use fluxlit_support::certificate::trusting_file;
use fluxlit_support::client::{TlsStream, connect, tls};
use fluxlit_support::http1::{read_head_blocking, read_response_blocking};

use super::http2;
use super::origin::{BODY, Origin, Turn};
use super::servers::{Addresses, Variant};
use crate::bench::gateway::frame;
use crate::bench::{BROWSER, FROM_THE_EDGE};

/// An exchange that is counted.
pub(super) struct Exchange {
    pub(super) name: &'static str,
    pub(super) variant: Variant,
    pub(super) open: fn(&Addresses, &mut Origin) -> anyhow::Result<Once>,
}

/// Carries out the exchange once more, on the same connections.
type Once = Box<dyn FnMut() -> anyhow::Result<()>>;

/// All exchanges.
pub(super) const EXCHANGES: [Exchange; 8] = [
    Exchange {
        name: "GET 1 KiB",
        variant: Variant::Plain,
        open: |to, origin| http1(plain(to.http1)?, &GET, origin),
    },
    Exchange {
        name: "GET 1 KiB, access log",
        variant: Variant::Logged,
        open: |to, origin| http1(plain(to.http1)?, &GET, origin),
    },
    Exchange {
        name: "GET 1 KiB, TLS",
        variant: Variant::Tls,
        open: |to, origin| http1(encrypted(to, "http/1.1")?, &GET, origin),
    },
    Exchange {
        name: "GET 1 KiB, HTTP/2",
        variant: Variant::Plain,
        open: |to, origin| over_http2(plain(to.http2)?, "http", origin),
    },
    Exchange {
        name: "GET 1 KiB, HTTP/2, TLS",
        variant: Variant::Tls,
        open: |to, origin| over_http2(encrypted(to, "h2")?, "https", origin),
    },
    Exchange {
        name: "POST 1 KiB",
        variant: Variant::Plain,
        open: |to, origin| http1(plain(to.http1)?, &POST, origin),
    },
    Exchange {
        name: "WebSocket message to the app",
        variant: Variant::Plain,
        open: to_app,
    },
    Exchange {
        name: "WebSocket message to the client",
        variant: Variant::Plain,
        open: to_client,
    },
];

/// A request without its path and fields.
struct Request {
    method: &'static str,
    /// Bytes of the body.
    body: usize,
}

const GET: Request = Request {
    method: "GET",
    body: 0,
};

const POST: Request = Request {
    method: "POST",
    body: BODY,
};

fn plain(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects with TLS. `protocol`: what is selected by ALPN.
fn encrypted(to: &Addresses, protocol: &str) -> anyhow::Result<TlsStream> {
    let certificate: &Path = to.certificate.as_deref().context("no certificate")?;
    let mut config = trusting_file(certificate, None)?;
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(tls(plain(to.http1)?, config)?)
}

fn http1(
    stream: impl Read + Write + 'static,
    request: &Request,
    origin: &Origin,
) -> anyhow::Result<Once> {
    let Request { method, body } = *request;
    let mut lines = vec![format!("{method} {MOUNT}/1k HTTP/1.1")];
    lines.extend(BROWSER.into_iter().chain(FROM_THE_EDGE).map(str::to_owned));
    if body > 0 {
        lines.push(format!("Content-Length: {body}"));
    }
    let mut request = format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
    request.resize(request.len() + body, b'a');
    let mut reader = BufReader::new(stream);
    let turn = origin.turn.clone();
    Ok(Box::new(move || {
        reader.get_mut().write_all(&request)?;
        reader.get_mut().flush()?;
        let response = read_response_blocking(&mut reader, method)?.context("no response")?;
        ensure!(
            response.status == 200 && response.body.len() == BODY,
            "the response is {response:?}"
        );
        turn.wait()
    }))
}

fn over_http2(
    stream: impl Read + Write + 'static,
    scheme: &str,
    origin: &Origin,
) -> anyhow::Result<Once> {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut fields = vec![
        field(":method", "GET"),
        field(":scheme", scheme),
        field(":path", &format!("{MOUNT}/1k")),
    ];
    for line in BROWSER.into_iter().chain(FROM_THE_EDGE) {
        let (name, value) = line.split_once(": ").context("a field without a value")?;
        let name = match name {
            "Host" => ":authority".to_owned(),
            name => name.to_ascii_lowercase(),
        };
        fields.push((name, value.to_owned()));
    }
    let mut connection = http2::Connection::open(stream, fields)?;
    let turn = origin.turn.clone();
    Ok(Box::new(move || {
        let length = connection.exchange()?;
        ensure!(length == BODY, "the body has {length} bytes");
        turn.wait()
    }))
}

/// A WebSocket from both sides.
struct WebSocket {
    client: BufReader<TcpStream>,
    app: TcpStream,
    turn: Turn,
}

impl WebSocket {
    fn open(to: &Addresses, origin: &mut Origin) -> anyhow::Result<Self> {
        let mut client = BufReader::new(plain(to.http1)?);
        // The key is the example of RFC 6455 §1.3.
        let mut lines = vec![format!("GET {MOUNT}/_stcore/stream HTTP/1.1")];
        lines.extend(BROWSER.into_iter().chain(FROM_THE_EDGE).map(str::to_owned));
        lines.extend(HANDSHAKE.map(str::to_owned));
        client
            .get_mut()
            .write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())?;
        let head = read_head_blocking(&mut client)?.context("no response to the handshake")?;
        ensure!(head.word(1) == "101", "the response is {head:?}");
        let app = origin.socket()?;
        let turn = origin.turn.clone();
        turn.wait()?;
        Ok(Self { client, app, turn })
    }
}

fn to_app(to: &Addresses, origin: &mut Origin) -> anyhow::Result<Once> {
    let mut socket = WebSocket::open(to, origin)?;
    let (mut message, mut payload) = (Vec::new(), Vec::new());
    frame::write(frame::BINARY, &MESSAGE, true, &mut message);
    Ok(Box::new(move || {
        socket.client.get_mut().write_all(&message)?;
        frame::read(&mut socket.app, &mut payload)?;
        ensure!(payload == MESSAGE, "another message has arrived");
        socket.turn.wait()
    }))
}

fn to_client(to: &Addresses, origin: &mut Origin) -> anyhow::Result<Once> {
    let mut socket = WebSocket::open(to, origin)?;
    let (mut message, mut payload) = (Vec::new(), Vec::new());
    frame::write(frame::BINARY, &MESSAGE, false, &mut message);
    Ok(Box::new(move || {
        socket.app.write_all(&message)?;
        frame::read(&mut socket.client, &mut payload)?;
        ensure!(payload == MESSAGE, "another message has arrived");
        socket.turn.wait()
    }))
}

/// A message that needs no extended length.
const MESSAGE: [u8; 125] = [b'a'; 125];

/// Header lines of a WebSocket handshake.
const HANDSHAKE: [&str; 6] = [
    "Origin: https://portal.example.com",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: streamlit",
];
