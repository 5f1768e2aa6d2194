//! How is a request sent to Envoy, and what comes back?
//!
//! HTTP/1 goes over the wire as the case has it, byte for byte. HTTP/2 goes through a library, which refuses what no
//! HTTP/2 message may be. Each exchange has a connection of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use host_test::case_file::{Peer, Request, Version, envoy_peer};
use host_test::event::Message;
use host_test::{HeaderMap, envoy};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};

use super::admin::Admin;
use super::certificate::{self, Certificate};
use super::content::{Content, add_http, fields, latin1};
use super::process::wait_for;
use super::surroundings::{PeerKind, Surroundings};
use super::upstream::send_http2;
use super::wire::{self, Kind};

/// Where a listener is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Port(SocketAddr),
    Socket(PathBuf),
}

/// The certificates of a listener and its client.
pub(super) struct Certificates {
    pub(super) server: Certificate,
    pub(super) client: Option<Certificate>,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Sends a request and waits for the response: `None` if the connection ends without one.
///
/// # Errors
///
/// The listener cannot be reached, or nothing comes within the limit.
pub(super) async fn play(
    place: &Place,
    certificates: Option<&Certificates>,
    surroundings: &Surroundings,
    request: &Request,
    admin: &Admin,
) -> anyhow::Result<Option<Message>> {
    let exchange = async {
        let connection = connect(place, certificates, surroundings, request).await?;
        match request.http {
            Version::Http2 => play_http2(connection, request).await,
            Version::Http10 | Version::Http11 => play_http1(connection, request, admin).await,
        }
    };
    tokio::time::timeout(LIMIT, exchange)
        .await
        .context("no response came")?
}

async fn connect(
    place: &Place,
    certificates: Option<&Certificates>,
    surroundings: &Surroundings,
    request: &Request,
) -> anyhow::Result<Box<dyn Duplex>> {
    let mut connection: Box<dyn Duplex> = match place {
        Place::Port(address) => Box::new(TcpStream::connect(address).await?),
        Place::Socket(path) => Box::new(UnixStream::connect(path).await?),
    };
    if surroundings.peer != PeerKind::Unix {
        connection
            .write_all(proxy_line(request.peer).as_bytes())
            .await?;
    }
    let Some(Certificates { server, client }) = certificates else {
        return Ok(connection);
    };
    let protocol: &[u8] = match request.http {
        Version::Http2 => b"h2",
        Version::Http10 | Version::Http11 => b"http/1.1",
    };
    let name = surroundings.server_name.as_deref().unwrap_or(SERVER_NAME);
    let (connector, name) = certificate::client(server, client.as_ref(), protocol, name)?;
    Ok(Box::new(connector.connect(name, connection).await?))
}

/// The line of the PROXY protocol that plays the peer. A port of 0 says that the address is not the connection's.
fn proxy_line(peer: Peer) -> String {
    match envoy_peer(peer) {
        envoy::Peer::Ip(peer) => match peer.ip() {
            IpAddr::V4(ip) => format!("PROXY TCP4 {ip} 127.0.0.1 {} 10000\r\n", peer.port()),
            IpAddr::V6(ip) => format!("PROXY TCP6 {ip} ::1 {} 10000\r\n", peer.port()),
        },
        envoy::Peer::Unix | envoy::Peer::FromHeader => {
            "PROXY TCP4 203.0.113.99 127.0.0.1 0 10000\r\n".to_owned()
        }
    }
}

async fn play_http1(
    connection: Box<dyn Duplex>,
    request: &Request,
    admin: &Admin,
) -> anyhow::Result<Option<Message>> {
    let version = match request.http {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 | Version::Http2 => "HTTP/1.1",
    };
    let start = latin1(&format!("{} {} {version}", request.method, request.target));
    let host = request
        .host
        .iter()
        .map(|host| (b"Host".to_vec(), latin1(host)));
    let lines: Vec<wire::Field> = host.chain(fields(&request.headers)).collect();
    let content = Content::of_request(request);
    let mut connection = BufReader::new(connection);
    for piece in wire::pieces(&start, &lines, &content, Kind::Request) {
        let before = if content.has_frames {
            admin.received_bytes().await?
        } else {
            0
        };
        // Envoy may have answered and closed already; what it said is read below.
        if connection.write_all(&piece).await.is_err() || connection.flush().await.is_err() {
            break;
        }
        if content.has_frames {
            let size = u64::try_from(piece.len())?;
            // What has not been read yet would be one frame with what follows. Envoy may not read on: it has answered.
            let is_read = async || {
                let read = admin.received_bytes().await.ok()?;
                (read >= before + size).then_some(())
            };
            let _ = wait_for(READING, is_read).await;
        }
    }
    loop {
        let Ok(Some(head)) = wire::read_head(&mut connection).await else {
            return Ok(None);
        };
        let status = status_of(&head.start)?;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let is_bodiless = request.method == "HEAD" || matches!(status, 101 | 204 | 304);
        let kind = if is_bodiless {
            Kind::Bodiless
        } else {
            Kind::Response
        };
        let rest = wire::read_rest(&mut connection, &head.headers, kind).await;
        let mut headers = HeaderMap::default();
        headers.add(b":status", status.to_string().as_bytes());
        for (name, value) in head.headers.iter() {
            headers.add(name, value);
        }
        return Ok(Some(Message {
            headers,
            body: rest.body,
            trailers: rest.trailers,
            is_complete: rest.is_complete,
        }));
    }
}

fn status_of(start: &[u8]) -> anyhow::Result<u16> {
    let status = start.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    Ok(std::str::from_utf8(status)?.parse()?)
}

async fn play_http2(
    connection: Box<dyn Duplex>,
    request: &Request,
) -> anyhow::Result<Option<Message>> {
    let content = Content::of_request(request);
    let is_headers_only = content.frames.is_empty() && content.trailers.is_empty();
    let (sender, connection) = h2::client::handshake(connection).await?;
    let connection = tokio::spawn(connection);
    let (response, mut stream) = sender
        .ready()
        .await?
        .send_request(http2_request(request)?, is_headers_only)?;
    send_http2(&mut stream, &content)?;
    // A reset is no response.
    let message = match response.await {
        Ok(response) => Some(read_http2(response).await),
        Err(_) => None,
    };
    connection.abort();
    Ok(message)
}

async fn read_http2(response: http::Response<h2::RecvStream>) -> Message {
    let (parts, mut body) = response.into_parts();
    let mut message = Message::default();
    message
        .headers
        .add(b":status", parts.status.as_str().as_bytes());
    add_http(&mut message.headers, &parts.headers);
    while let Some(frame) = body.data().await {
        let Ok(frame) = frame else { return message };
        // A stream that is gone needs no window.
        let _ = body.flow_control().release_capacity(frame.len());
        message.body.extend(frame);
    }
    if let Ok(trailers) = body.trailers().await {
        message.is_complete = true;
        add_http(&mut message.trailers, &trailers.unwrap_or_default());
    }
    message
}

/// The request as the HTTP/2 library takes it.
///
/// # Errors
///
/// What the library would not send, or would send differently.
pub(super) fn http2_request(request: &Request) -> anyhow::Result<http::Request<()>> {
    let scheme = if request.tls { "https" } else { "http" };
    let host = request.host.as_deref().context("it has no authority")?;
    let uri = format!("{scheme}://{host}{}", request.target);
    let mut built = http::Request::builder()
        .version(http::Version::HTTP_2)
        .method(request.method.as_str())
        .uri(uri.as_str())
        .body(())?;
    ensure!(
        request.target.starts_with('/') && built.uri().to_string() == uri,
        "it would send another target"
    );
    for (name, value) in fields(&request.headers) {
        built.headers_mut().append(
            http::HeaderName::from_bytes(&name)?,
            http::HeaderValue::from_bytes(&value)?,
        );
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ] {
        ensure!(
            !built.headers().contains_key(name),
            "HTTP/2 has no `{name}`"
        );
    }
    Ok(built)
}

/// The name in the listener's certificate if the request asks for none.
pub(super) const SERVER_NAME: &str = "localhost";

/// How long Envoy may take to read a frame.
const READING: Duration = Duration::from_secs(2);

/// Longer than Envoy waits for anything.
const LIMIT: Duration = Duration::from_secs(30);
