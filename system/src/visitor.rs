//! Sends requests to a front as a browser would: with the public host name, over TLS or not.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use fluxlit_support::certificate::CertificateFiles;
use fluxlit_support::client::{connect_from, exchange};
use fluxlit_support::http1::Response;
use rustls::{ClientConnection, StreamOwned};

/// A client.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// The address that it connects from.
    pub from: IpAddr,
    /// The address of the front.
    pub front: SocketAddr,
    /// The public host name, for `Host` and TLS.
    pub host: String,
    /// The certificate that it trusts; without one it does not use TLS.
    pub trusted: Option<CertificateFiles>,
    /// The value of `Cookie` in each request.
    pub cookie: Option<String>,
}

/// A connection, over TLS or not.
pub trait Connection: Read + Write + Send {}

impl<T: Read + Write + Send> Connection for T {}

impl Visitor {
    /// Connects to the front.
    ///
    /// # Errors
    ///
    /// If it cannot be reached. A failed TLS handshake is reported when the connection is used.
    pub fn connect(&self) -> io::Result<Box<dyn Connection>> {
        let stream: TcpStream = connect_from(self.from, self.front)?;
        let Some(trusted) = &self.trusted else {
            return Ok(Box::new(stream));
        };
        let config = trusted.client_config(None)?;
        let name = self.host.clone().try_into().map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }

    /// Sends a GET request with further fields; each ends with a line break.
    ///
    /// # Errors
    ///
    /// If there is no complete response.
    pub fn get(&self, target: &str, fields: &str) -> io::Result<Response> {
        self.request("GET", target, fields, b"")
    }

    /// Sends a request with further fields, each of which ends with a line break, and a body.
    ///
    /// # Errors
    ///
    /// If there is no complete response.
    pub fn request(
        &self,
        method: &str,
        target: &str,
        fields: &str,
        body: &[u8],
    ) -> io::Result<Response> {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let head = format!(
            "{method} {target} HTTP/1.1\r\n{}{fields}{length}Connection: close\r\n\r\n",
            self.fields()
        );
        exchange(
            &mut self.connect()?,
            &[head.as_bytes(), body].concat(),
            method,
        )
    }

    /// Sends a POST request with a body of this length; the body is sent only if `is_sent`.
    ///
    /// # Errors
    ///
    /// If there is no complete response.
    pub fn post(&self, target: &str, length: usize, is_sent: bool) -> io::Result<Response> {
        let mut request = format!(
            "POST {target} HTTP/1.1\r\n{}Content-Length: {length}\r\nConnection: close\r\n\r\n",
            self.fields()
        )
        .into_bytes();
        if is_sent {
            request.resize(request.len() + length, b'x');
        }
        exchange(&mut self.connect()?, &request, "POST")
    }

    /// Opens a WebSocket from a page of `origin`; returns the response, and the connection after it.
    ///
    /// # Errors
    ///
    /// If there is no complete response.
    pub fn socket(
        &self,
        target: &str,
        origin: &str,
    ) -> io::Result<(Response, Box<dyn Connection>)> {
        self.socket_with(target, origin, "")
    }

    /// The same with further fields; each ends with a line break.
    ///
    /// # Errors
    ///
    /// If there is no complete response.
    pub fn socket_with(
        &self,
        target: &str,
        origin: &str,
        fields: &str,
    ) -> io::Result<(Response, Box<dyn Connection>)> {
        let request = format!(
            "GET {target} HTTP/1.1\r\n{}{fields}Origin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.fields()
        );
        let mut connection = self.connect()?;
        let response = exchange(&mut connection, request.as_bytes(), "GET")?;
        Ok((response, connection))
    }

    /// Returns the fields of every request.
    fn fields(&self) -> String {
        let cookie = self.cookie.as_ref();
        let cookie = cookie.map(|cookie| format!("Cookie: {cookie}\r\n"));
        format!("Host: {}\r\n{}", self.host, cookie.unwrap_or_default())
    }
}

/// Sends a short text message on a WebSocket and returns the one that comes back.
///
/// # Errors
///
/// If the connection ends first.
pub fn echo(connection: &mut dyn Connection, message: &str) -> io::Result<String> {
    let length = u8::try_from(message.len()).map_err(io::Error::other)?;
    let mask = [7, 11, 13, 17];
    let mut frame = vec![0x81, 0x80 | length];
    frame.extend(mask);
    frame.extend(
        message
            .bytes()
            .zip(mask.iter().cycle())
            .map(|(octet, mask)| octet ^ mask),
    );
    connection.write_all(&frame)?;
    connection.flush()?;
    let mut reply = vec![0; 2 + message.len()];
    connection.read_exact(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply[2..]).into_owned())
}
