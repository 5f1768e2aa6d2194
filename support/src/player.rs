//! Sends the requests of cases to a listener, and reads the responses.
//!
//! HTTP/1 requests are sent byte for byte as the case has them. HTTP/2 requests are sent by a library, which rejects
//! invalid messages. The PROXY protocol sets the peer's address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fluxlit_cases::{DownstreamResponse, Request, Version, latin1};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::http1::{self, Content, Kind};
use crate::upstream::{RUNTIME, from_http, send_http2, to_http};

/// The address of a listener, and the way in which a client connects to it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The address.
    pub address: Address,
    /// The peer that the PROXY protocol names, if the listener expects it.
    pub peer: Option<SocketAddr>,
    /// TLS, if the listener expects it.
    pub tls: Option<Tls>,
}

/// The address of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The TLS settings of a client.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificates that the client trusts, and its own.
    pub config: ClientConfig,
    /// The name of the server.
    pub server_name: String,
}

/// An open connection to a listener. Its methods fail if no response arrives within half a minute.
pub struct Connection(BufReader<Box<dyn Duplex>>);

/// A response as the client received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedResponse {
    /// The response so far.
    pub response: DownstreamResponse,
    /// True if the end of the response was received.
    pub is_complete: bool,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Connection {
    /// Connects to a listener for requests of this version.
    ///
    /// # Errors
    ///
    /// If it cannot be reached, or TLS fails.
    pub fn open(target: &Target, version: Version) -> io::Result<Self> {
        let open = async {
            let mut connection: Box<dyn Duplex> = match &target.address {
                Address::Tcp(address) => Box::new(TcpStream::connect(address).await?),
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            };
            if let Some(peer) = target.peer {
                connection.write_all(proxy_line(peer).as_bytes()).await?;
            }
            if let Some(Tls {
                config,
                server_name,
            }) = &target.tls
            {
                let mut config = config.clone();
                config.alpn_protocols = vec![match version {
                    Version::Http2 => b"h2".to_vec(),
                    Version::Http10 | Version::Http11 => b"http/1.1".to_vec(),
                }];
                let name = ServerName::try_from(server_name.clone()).map_err(io::Error::other)?;
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                connection = Box::new(connector.connect(name, connection).await?);
            }
            Ok(Self(BufReader::new(connection)))
        };
        within_limit(open)
    }

    /// Sends a request over HTTP/1 and waits for the response; `None` if the connection ends without a valid one. `between`
    /// is called before and after each piece of a request that is sent in frames, and may block.
    ///
    /// # Errors
    ///
    /// If no response arrives in time.
    pub fn http1(
        &mut self,
        request: &Request,
        mut between: impl FnMut(Moment),
    ) -> io::Result<Option<ReceivedResponse>> {
        within_limit(async {
            let (start, fields) = http1::request_head(request);
            let content = Content::of_request(request);
            for piece in http1::pieces(&start, &fields, &content, Kind::Request) {
                if content.has_frames {
                    between(Moment::BeforePiece);
                }
                // The listener may have responded and closed already; its response is read below.
                if self.0.write_all(&piece).await.is_err() || self.0.flush().await.is_err() {
                    break;
                }
                if content.has_frames {
                    between(Moment::AfterPiece(piece.len()));
                }
            }
            let Ok(response) = http1::read_response(&mut self.0, &request.method).await else {
                return Ok(None);
            };
            Ok(response.map(|response| {
                let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                ReceivedResponse {
                    is_complete: response.is_complete,
                    response: DownstreamResponse {
                        status: response.status,
                        headers: response.head.fields().map(owned).collect(),
                        body: response.text(),
                        trailers: http1::fields(&response.trailers).map(owned).collect(),
                    },
                }
            }))
        })
    }

    /// Sends a request over HTTP/2 and waits for the response; `None` if the stream is reset. The connection serves no
    /// other request.
    ///
    /// # Errors
    ///
    /// If no response arrives in time, or the library cannot send the request.
    pub fn http2(self, request: &Request) -> io::Result<Option<ReceivedResponse>> {
        let head = http2_request(request).map_err(io::Error::other)?;
        within_limit(async move {
            let content = Content::of_request(request);
            let is_headers_only = content.frames.is_empty() && content.trailers.is_empty();
            let (sender, connection) = h2::client::handshake(self.0)
                .await
                .map_err(io::Error::other)?;
            let connection = tokio::spawn(connection);
            let mut sender = sender.ready().await.map_err(io::Error::other)?;
            let (response, mut stream) = sender
                .send_request(head, is_headers_only)
                .map_err(io::Error::other)?;
            send_http2(&mut stream, &content)?;
            let response = match response.await {
                Ok(response) => Some(read_http2(response).await),
                Err(_) => None,
            };
            connection.abort();
            Ok(response)
        })
    }
}

/// A moment while a request is sent in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A piece of this many bytes has been written.
    AfterPiece(usize),
    /// A piece will be written.
    BeforePiece,
}

/// Builds the request for the HTTP/2 library.
///
/// # Errors
///
/// The reason, if the library would not send the request, or would send it differently.
pub fn http2_request(request: &Request) -> Result<http::Request<()>, String> {
    let scheme = if request.tls { "https" } else { "http" };
    let host = request.host.as_deref().ok_or("it has no authority")?;
    let uri = format!("{scheme}://{host}{}", request.target);
    let mut built = http::Request::builder()
        .version(http::Version::HTTP_2)
        .method(request.method.as_str())
        .uri(uri.as_str())
        .body(())
        .map_err(|error| error.to_string())?;
    if !request.target.starts_with('/') || built.uri().to_string() != uri {
        return Err("it would send another target".to_owned());
    }
    *built.headers_mut() = to_http(&request.headers).map_err(|error| error.to_string())?;
    for name in CONNECTION_SPECIFIC {
        if built.headers().contains_key(name) {
            return Err(format!("HTTP/2 has no `{name}`"));
        }
    }
    Ok(built)
}

async fn read_http2(response: http::Response<h2::RecvStream>) -> ReceivedResponse {
    let (parts, mut body) = response.into_parts();
    let mut received = ReceivedResponse {
        response: DownstreamResponse {
            status: parts.status.as_u16(),
            headers: from_http(&parts.headers),
            body: String::new(),
            trailers: Vec::new(),
        },
        is_complete: false,
    };
    while let Some(frame) = body.data().await {
        let Ok(frame) = frame else { return received };
        // A stream that has ended needs no window.
        let _ = body.flow_control().release_capacity(frame.len());
        received.response.body.push_str(&latin1::text(&frame));
    }
    if let Ok(trailers) = body.trailers().await {
        received.is_complete = true;
        received.response.trailers = from_http(&trailers.unwrap_or_default());
    }
    received
}

/// Builds the line of the PROXY protocol that names the peer.
fn proxy_line(peer: SocketAddr) -> String {
    match peer.ip() {
        IpAddr::V4(ip) => format!("PROXY TCP4 {ip} 127.0.0.1 {} 10000\r\n", peer.port()),
        IpAddr::V6(ip) => format!("PROXY TCP6 {ip} ::1 {} 10000\r\n", peer.port()),
    }
}

/// Runs a future on this thread. Its connections are driven by the thread of the upstreams.
fn within_limit<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    RUNTIME.block_on(async {
        tokio::time::timeout(LIMIT, future)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no response came"))?
    })
}

/// Fields that HTTP/2 does not allow (RFC 9113 §8.2.2).
const CONNECTION_SPECIFIC: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Longer than Envoy's timeouts.
const LIMIT: Duration = Duration::from_secs(30);
