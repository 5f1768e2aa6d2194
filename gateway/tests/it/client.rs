//! A client's connection, and messages as they were on the wire.
//!
//! Text stands for octets here, one character each, so that what is no UTF-8 can be written and compared as well.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection to a gateway.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the field lines.
    pub(crate) head: Vec<String>,
    pub(crate) body: String,
    /// Field lines behind a chunked body.
    pub(crate) trailers: Vec<String>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self::try_new(address).expect("a connection")
    }

    pub(crate) fn try_new(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.try_say(text).expect("it is sent");
    }

    pub(crate) fn try_say(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(&octets(text))
    }

    /// The next answer to a request that is not HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    pub(crate) fn try_answer(&mut self) -> io::Result<Answer> {
        let mut answer = self.head_of_answer()?;
        if answer.status >= 200 && !matches!(answer.status, 204 | 304) {
            let is_framed = !answer.lines("content-length").is_empty()
                || !answer.lines("transfer-encoding").is_empty();
            if is_framed {
                let (body, trailers) = read_body(&answer.head, &mut self.stream)?;
                answer.body = body;
                answer.trailers = trailers;
            } else {
                answer.body = self.rest();
            }
        }
        Ok(answer)
    }

    /// The next answer, up to the end of its head.
    pub(crate) fn head_of_answer(&mut self) -> io::Result<Answer> {
        let head = head(&mut self.stream);
        let status = head.first().and_then(|line| line.get(9..12));
        let status = status.and_then(|status| status.parse().ok());
        Ok(Answer {
            status: status.ok_or(io::ErrorKind::UnexpectedEof)?,
            head,
            body: String::new(),
            trailers: Vec::new(),
        })
    }

    /// All that comes until the connection ends, in whichever way.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        text(&rest)
    }

    /// Whether the connection is closed, and nothing came before.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

impl Answer {
    /// The values of a field's lines.
    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        lines(&self.head, name)
    }
}

/// The values of a field's lines in a head.
pub(crate) fn lines<'h>(head: &'h [String], name: &str) -> Vec<&'h str> {
    head.iter()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

/// Reads the lines of a head; empty at the end of the connection.
pub(crate) fn head(stream: &mut impl BufRead) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        let is_end = stream.read_until(b'\n', &mut line).unwrap_or(0) == 0;
        let line = text(&line);
        let line = line.trim_end_matches(['\r', '\n']);
        if is_end || line.is_empty() {
            return lines;
        }
        lines.push(line.to_owned());
    }
}

/// Reads the body that follows a head, and its trailers.
pub(crate) fn read_body(
    head: &[String],
    stream: &mut impl BufRead,
) -> io::Result<(String, Vec<String>)> {
    let mut body = Vec::new();
    if let [length] = lines(head, "content-length")[..] {
        body.resize(length.parse().map_err(io::Error::other)?, 0);
        stream.read_exact(&mut body)?;
        return Ok((text(&body), Vec::new()));
    }
    if lines(head, "transfer-encoding").is_empty() {
        return Ok((String::new(), Vec::new()));
    }
    loop {
        let mut size = String::new();
        stream.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        if size == 0 {
            let trailers = self::head(stream);
            return Ok((text(&body), trailers));
        }
        let start = body.len();
        body.resize(start + size + 2, 0);
        stream.read_exact(&mut body[start..])?;
        body.truncate(start + size);
    }
}

/// Octets as text, one character each.
pub(crate) fn text(octets: &[u8]) -> String {
    octets.iter().copied().map(char::from).collect()
}

/// Text as octets, one for each character.
pub(crate) fn octets(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).expect("an octet"))
        .collect()
}

/// How long anything may take that should happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
