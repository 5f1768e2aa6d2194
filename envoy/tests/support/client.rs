//! A client that sends exactly what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

use super::text;

/// A response, its header lines as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// All lines of a field.
    pub fn lines(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Connects from an address of one's own, such as 127.0.0.9.
pub fn connect_from(own: IpAddr, to: SocketAddr) -> TcpStream {
    let socket =
        rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::new(own, 0)).expect("an address of this machine");
    rustix::net::connect(&socket, &to).expect("a connection");
    let stream = TcpStream::from(socket);
    prepare(&stream);
    stream
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("a connection");
    prepare(&stream);
    stream
}

fn prepare(stream: &TcpStream) {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a time limit");
}

/// Sends bytes and reads one final response, its interim responses skipped.
pub fn exchange(stream: &mut (impl Read + Write), request: &[u8], method: &str) -> Response {
    stream.write_all(request).expect("the request is sent");
    stream.flush().expect("the request is sent");
    read_response(stream, method)
}

/// Reads one final response.
pub fn read_response(stream: &mut impl Read, method: &str) -> Response {
    try_read_response(stream, method).expect("a status line")
}

/// Reads one final response; `None` if the connection ends before it begins.
pub fn try_read_response(stream: &mut impl Read, method: &str) -> Option<Response> {
    let mut reader = BufReader::with_capacity(1, stream);
    loop {
        let response = read_one(&mut reader, method)?;
        if response.status >= 200 || response.status == 101 {
            return Some(response);
        }
    }
}

fn read_one(reader: &mut impl BufRead, method: &str) -> Option<Response> {
    let head = read_head(reader);
    let mut lines = head.into_iter();
    let status_line = lines.next()?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no status in {status_line:?}"));
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        })
        .collect();
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    if method == "HEAD" || status < 200 || matches!(status, 204 | 304) {
        return Some(response);
    }
    if response.lines("transfer-encoding").contains(&"chunked") {
        response.body = read_chunks(reader).0;
    } else if let Some(length) = response.lines("content-length").first() {
        let length = length.parse().expect("a length");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a whole body");
        response.body = body;
    } else {
        reader.read_to_end(&mut response.body).expect("a body");
    }
    Some(response)
}

/// Reads the lines of a head as Latin-1 text; empty at the end of the connection.
pub fn read_head(reader: &mut impl BufRead) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        let count = reader.read_until(b'\n', &mut line).unwrap_or(0);
        let line = text(line.trim_ascii_end());
        if count == 0 || line.is_empty() {
            return lines;
        }
        lines.push(line);
    }
}

/// Reads a chunked body and its trailers.
pub fn read_chunks(reader: &mut impl BufRead) -> (Vec<u8>, Vec<String>) {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a chunk");
        let size = usize::from_str_radix(line.trim(), 16).expect("the size of a chunk");
        if size == 0 {
            return (body, read_head(reader));
        }
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).expect("a whole chunk");
        body.extend_from_slice(&chunk[..size]);
    }
}
