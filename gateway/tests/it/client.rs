//! Connects to a gateway as a client, and reads messages as they are on the wire.
//!
//! Text stands for bytes here, one Latin-1 character for each byte, so that any bytes can be written and compared.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use fluxlit_support::client::{self, SILENCE_LIMIT};
use fluxlit_support::http1::{self, Head, Kind};

pub(crate) use fluxlit_cases::latin1::{bytes, text};

/// A connection to a gateway.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

/// A response as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The status line and the field lines.
    pub(crate) head: Vec<String>,
    pub(crate) body: String,
    /// The field lines after a chunked body.
    pub(crate) trailers: Vec<String>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self::try_new(address).expect("a connection")
    }

    pub(crate) fn try_new(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            stream: BufReader::new(client::connect(address)?),
        })
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.try_send(text).expect("the text is sent");
    }

    pub(crate) fn try_send(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(&bytes(text))
    }

    /// Reads the next response to a request that is not HEAD.
    pub(crate) fn response(&mut self) -> Response {
        self.try_response().expect("a response")
    }

    pub(crate) fn try_response(&mut self) -> io::Result<Response> {
        let mut response = self.response_head()?;
        if response.status >= 200 && !matches!(response.status, 204 | 304) {
            let is_framed = !response.values("content-length").is_empty()
                || !response.values("transfer-encoding").is_empty();
            if is_framed {
                let (body, trailers) = read_body(&response.head, &mut self.stream)?;
                response.body = body;
                response.trailers = trailers;
            } else {
                response.body = self.rest();
            }
        }
        Ok(response)
    }

    /// Reads the next response up to the end of its head.
    pub(crate) fn response_head(&mut self) -> io::Result<Response> {
        let head = head(&mut self.stream);
        let status = head.first().and_then(|line| line.get(9..12));
        let status = status.and_then(|status| status.parse().ok());
        Ok(Response {
            status: status.ok_or(io::ErrorKind::UnexpectedEof)?,
            head,
            body: String::new(),
            trailers: Vec::new(),
        })
    }

    /// Reads until the connection ends or breaks.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = io::Read::read_to_end(&mut self.stream, &mut rest);
        text(&rest)
    }

    /// Waits for the next byte; returns true if the connection is closed instead.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(io::Read::read(&mut self.stream, &mut [0]), Ok(0))
    }
}

impl Response {
    /// Returns the values of the field lines with this name.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        values(&self.head, name)
    }
}

/// Returns the values of the field lines with this name in a head.
pub(crate) fn values<'h>(head: &'h [String], name: &str) -> Vec<&'h str> {
    http1::fields(head.get(1..).unwrap_or_default())
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

/// Reads the lines of a head; empty at the end of the connection.
pub(crate) fn head(stream: &mut impl BufRead) -> Vec<String> {
    let head = http1::read_head_blocking(stream).ok().flatten();
    head.unwrap_or_default().lines
}

/// Reads the body and the trailers that follow a head. Without a length there is no body.
pub(crate) fn read_body(
    head: &[String],
    stream: &mut impl BufRead,
) -> io::Result<(String, Vec<String>)> {
    let head = Head {
        lines: head.to_vec(),
    };
    let body = http1::read_body_blocking(stream, &head, Kind::Request);
    if !body.is_complete {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((body.text(), body.trailers))
}

/// The maximum time for anything that should happen at once.
pub(crate) const LIMIT: std::time::Duration = SILENCE_LIMIT;
