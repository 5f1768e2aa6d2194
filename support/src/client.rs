//! Opens blocking connections that send exactly the bytes of a test.

use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fluxlit_cases::latin1;
use rustix::net::{AddressFamily, SocketType};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::certificate;
use crate::http1::{self, Head, Response};

/// A blocking TLS connection.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A connection that is written byte by byte and read message by message.
#[derive(Debug)]
pub struct Client {
    /// The connection, with the bytes that have been read but not consumed.
    pub stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            stream: BufReader::new(connect(address)?),
        })
    }

    /// Sends Latin-1 text as bytes.
    ///
    /// # Errors
    ///
    /// If the connection is closed.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(&latin1::bytes(text))
    }

    /// Reads the next final response to a request with this method. Check [`Response::is_complete`].
    ///
    /// # Errors
    ///
    /// If the connection ends before the end of its head.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let response = http1::read_response_blocking(&mut self.stream, method)?;
        response.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads the next head, which may be that of an interim response.
    ///
    /// # Errors
    ///
    /// If the connection ends first.
    pub fn head(&mut self) -> io::Result<Head> {
        let head = http1::read_head_blocking(&mut self.stream)?;
        head.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads everything until the connection ends or breaks, as Latin-1 text.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // If the connection breaks, the bytes received before are the result.
        let _ = self.stream.read_to_end(&mut rest);
        latin1::text(&rest)
    }

    /// Waits for the next byte; returns true if the connection is closed instead.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

/// Connects to a server.
///
/// # Errors
///
/// If it cannot be reached.
pub fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    with_limits(TcpStream::connect(to)?)
}

/// Connects to a server from the local address `own`, such as 127.0.0.9.
///
/// # Errors
///
/// If the server cannot be reached, or `own` is not a local address.
pub fn connect_from(own: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(own, 0))?;
    rustix::net::connect(&socket, &to)?;
    with_limits(TcpStream::from(socket))
}

/// Begins TLS on a connection, with the server name `localhost`.
///
/// # Errors
///
/// If the settings are invalid. A failed handshake is reported when the connection is used.
pub fn tls(stream: TcpStream, config: ClientConfig) -> io::Result<TlsStream> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    tls_as(stream, config, name)
}

/// Sends bytes and reads one final response to a request with this method. Reads no byte after it, so that the stream can
/// continue with another protocol.
///
/// # Errors
///
/// If the response is missing or incomplete.
pub fn exchange(
    stream: &mut (impl Read + Write),
    request: &[u8],
    method: &str,
) -> io::Result<Response> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut reader = BufReader::with_capacity(1, stream);
    match http1::read_response_blocking(&mut reader, method)? {
        Some(response) if response.is_complete => Ok(response),
        Some(response) => Err(io::Error::other(format!("cut off: {response:?}"))),
        None => Err(io::Error::other("the connection ended without a response")),
    }
}

/// Requests a path and returns the response. With `trusted`, the file of a certificate, it connects with TLS.
///
/// # Errors
///
/// If there is no response in time, or the server has another certificate.
pub fn get(address: SocketAddr, path: &str, trusted: Option<&Path>) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, GET_LIMIT)?;
    stream.set_read_timeout(Some(GET_LIMIT))?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").into_bytes();
    match trusted {
        None => exchange(&mut stream, &request, "GET"),
        Some(trusted) => {
            let config = certificate::trusting_file(trusted, None)?;
            let mut stream = tls_as(stream, config, address.ip().into())?;
            exchange(&mut stream, &request, "GET")
        }
    }
}

/// Begins TLS on a connection, with this server name.
///
/// # Errors
///
/// If the settings are invalid. A failed handshake is reported when the connection is used.
pub fn tls_as(
    stream: TcpStream,
    config: ClientConfig,
    name: ServerName<'static>,
) -> io::Result<TlsStream> {
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

fn with_limits(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    stream.set_write_timeout(Some(SILENCE_LIMIT))?;
    Ok(stream)
}

/// The maximum time for a server to send or read the next byte.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// The limit for [`get`], which is often repeated until it succeeds.
const GET_LIMIT: Duration = Duration::from_secs(20);
