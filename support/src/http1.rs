//! Reads and writes HTTP/1 messages as they are on the wire.
//!
//! Libraries correct or reject invalid messages, but tests need exactly those. So messages are written as a test has them,
//! and read leniently: a line ends with a line feed, with or without a carriage return before it.
//!
//! The reader is asynchronous. [`read_head_blocking`] and its siblings run the same code on a blocking reader.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use fluxlit_cases::{Answer, Request, latin1};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, ReadBuf};

/// The start line and the field lines of a message, without their line ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The lines as Latin-1 text. The first one is the request line or the status line.
    pub lines: Vec<String>,
}

/// The body and the trailers of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// The content, without its framing.
    pub bytes: Vec<u8>,
    /// The trailer lines as Latin-1 text.
    pub trailers: Vec<String>,
    /// True if the end of the message was received.
    pub is_complete: bool,
}

/// A final response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The status line and the field lines.
    pub head: Head,
    /// The content.
    pub body: Vec<u8>,
    /// The trailer lines as Latin-1 text.
    pub trailers: Vec<String>,
    /// True if the end of the message was received.
    pub is_complete: bool,
}

/// The way in which the end of a message is found (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Without a length there is no body.
    Request,
    /// Without a length the body ends with the connection.
    Response,
    /// There is no body, regardless of the fields.
    Bodiless,
}

/// The name and the value of a field line, as Latin-1 text.
pub type Field = (String, String);

/// The content of a message that is sent: the body in frames, and the trailers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The body; the last frame ends the message unless there are trailers.
    pub frames: Vec<Vec<u8>>,
    /// True if the case lists the frames, so that each must arrive unchanged.
    pub has_frames: bool,
    /// The trailers.
    pub trailers: Vec<Field>,
}

impl Head {
    /// Returns the request line or the status line.
    pub fn start(&self) -> &str {
        self.lines.first().map_or("", String::as_str)
    }

    /// Returns the word of the start line at this index.
    pub fn word(&self, index: usize) -> &str {
        self.start().split(' ').nth(index).unwrap_or_default()
    }

    /// Returns the names, as sent, and the values of the field lines.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        fields(self.lines.get(1..).unwrap_or_default())
    }

    /// Returns the values of the field lines with this name.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}

impl Body {
    /// Returns the content as Latin-1 text.
    pub fn text(&self) -> String {
        latin1::text(&self.bytes)
    }
}

impl Response {
    /// Returns the values of the field lines with this name.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.head.values(name)
    }

    /// Returns the content as Latin-1 text.
    pub fn text(&self) -> String {
        latin1::text(&self.body)
    }
}

impl Content {
    /// Returns the content of a request of a case.
    pub fn of_request(request: &Request) -> Self {
        let frames = frames(&request.body, request.frame_size, &request.frames);
        Self::new(&request.body, &frames, &request.trailers)
    }

    /// Returns the content of the upstream's response of a case.
    pub fn of_answer(answer: &Answer) -> Self {
        let frames = frames(&answer.body, answer.frame_size, &answer.frames);
        Self::new(&answer.body, &frames, &answer.trailers)
    }

    /// Builds the content of a message from the keys of a case file: `body`, or `frames`.
    pub fn new(body: &str, frames: &[String], trailers: &[Field]) -> Self {
        let has_frames = !frames.is_empty();
        let frames = if has_frames {
            frames.iter().map(|frame| latin1::bytes(frame)).collect()
        } else if body.is_empty() {
            Vec::new()
        } else {
            vec![latin1::bytes(body)]
        };
        Self {
            frames,
            has_frames,
            trailers: trailers.to_vec(),
        }
    }
}

/// Splits field lines into names, as sent, and values.
pub fn fields(lines: &[String]) -> impl Iterator<Item = (&str, &str)> {
    lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim_matches(is_whitespace)))
}

/// Reads a head; `None` if the connection ends first.
///
/// # Errors
///
/// If the connection breaks.
pub async fn read_head(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Head>> {
    let Some(start) = read_line(reader).await? else {
        return Ok(None);
    };
    let mut lines = vec![start];
    Ok(read_fields(reader, &mut lines)
        .await?
        .then_some(Head { lines }))
}

/// Reads the body and the trailers after a head. If the connection ends or breaks too early, the body is incomplete.
pub async fn read_body(reader: &mut (impl AsyncBufRead + Unpin), head: &Head, kind: Kind) -> Body {
    let mut body = Body::default();
    // The error says only that the end is missing, which `is_complete` says as well.
    let _ = read_body_into(reader, head, kind, &mut body).await;
    body
}

/// Reads a final response to a request with this method, and skips interim responses. `None` if the connection ends
/// before the end of its head.
///
/// # Errors
///
/// If the connection breaks, or the status is not a number.
pub async fn read_response(
    reader: &mut (impl AsyncBufRead + Unpin),
    method: &str,
) -> io::Result<Option<Response>> {
    loop {
        let Some(head) = read_head(reader).await? else {
            return Ok(None);
        };
        let status = head.word(1).parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("no status in {head:?}"))
        })?;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let kind = if method == "HEAD" || matches!(status, 101 | 204 | 304) {
            Kind::Bodiless
        } else {
            Kind::Response
        };
        let body = read_body(reader, &head, kind).await;
        return Ok(Some(Response {
            status,
            head,
            body: body.bytes,
            trailers: body.trailers,
            is_complete: body.is_complete,
        }));
    }
}

/// Reads a head from a blocking reader, like [`read_head`].
///
/// # Errors
///
/// If the connection breaks.
pub fn read_head_blocking(reader: &mut impl io::BufRead) -> io::Result<Option<Head>> {
    run(read_head(&mut Blocking(reader)))
}

/// Reads the body and the trailers from a blocking reader, like [`read_body`].
pub fn read_body_blocking(reader: &mut impl io::BufRead, head: &Head, kind: Kind) -> Body {
    run(read_body(&mut Blocking(reader), head, kind))
}

/// Reads a final response from a blocking reader, like [`read_response`].
///
/// # Errors
///
/// If the connection breaks, or the status is not a number.
pub fn read_response_blocking(
    reader: &mut impl io::BufRead,
    method: &str,
) -> io::Result<Option<Response>> {
    run(read_response(&mut Blocking(reader), method))
}

/// Returns the field that a message gets in addition to `fields`, because its end could not be found without it.
pub fn added_field(
    fields: &[Field],
    content: &Content,
    kind: Kind,
) -> Option<(&'static str, String)> {
    let has = |name: &str| {
        fields
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    if is_chunked(fields, content, kind) {
        let chunked = ("transfer-encoding", "chunked".to_owned());
        return (!has("transfer-encoding")).then_some(chunked);
    }
    let length: usize = content.frames.iter().map(Vec::len).sum();
    // A request without a body needs no length. A response does, or it would end with the connection.
    let needs_length = length > 0 || kind == Kind::Response;
    let is_given = has("content-length") || has("transfer-encoding");
    (needs_length && !is_given).then(|| ("content-length", length.to_string()))
}

/// Returns true if the body is sent in chunks: it has trailers, or frames without a length.
fn is_chunked(fields: &[Field], content: &Content, kind: Kind) -> bool {
    let has_length = fields
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let has_frames = content.has_frames && !has_length;
    (has_frames || !content.trailers.is_empty()) && kind != Kind::Bodiless
}

/// Writes a message as pieces: the head, then each frame, then the end. No piece is empty.
pub fn pieces(start: &str, fields: &[Field], content: &Content, kind: Kind) -> Vec<Vec<u8>> {
    let mut head = latin1::bytes(start);
    head.extend(b"\r\n");
    for (name, value) in fields {
        put_field(&mut head, name, value);
    }
    if let Some((name, value)) = added_field(fields, content, kind) {
        put_field(&mut head, name, &value);
    }
    head.extend(b"\r\n");
    let mut pieces = vec![head];
    if kind == Kind::Bodiless {
        return pieces;
    }
    let frames = content.frames.iter().filter(|frame| !frame.is_empty());
    if !is_chunked(fields, content, kind) {
        if content.has_frames {
            pieces.extend(frames.cloned());
            return pieces;
        }
        // Most clients send a body that needs no frames together with the head.
        pieces
            .iter_mut()
            .for_each(|head| head.extend(content.frames.concat()));
        return pieces;
    }
    for frame in frames {
        let size = format!("{:x}\r\n", frame.len());
        pieces.push([size.as_bytes(), frame, b"\r\n"].concat());
    }
    let mut end = b"0\r\n".to_vec();
    for (name, value) in &content.trailers {
        put_field(&mut end, name, value);
    }
    end.extend(b"\r\n");
    pieces.push(end);
    pieces
}

/// Returns the request line and the field lines of a request of a case.
pub fn request_head(request: &Request) -> (String, Vec<Field>) {
    let version = match request.http {
        fluxlit_cases::Version::Http10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    let host = request
        .host
        .iter()
        .map(|host| ("Host".to_owned(), host.clone()));
    (
        format!("{} {} {version}", request.method, request.target),
        host.chain(request.headers.iter().cloned()).collect(),
    )
}

/// Returns the frames of a message of a case: those that it lists, or pieces of the body and an empty last one.
fn frames(body: &str, size: Option<std::num::NonZeroUsize>, frames: &[String]) -> Vec<String> {
    let Some(size) = size else {
        return frames.to_vec();
    };
    let characters: Vec<char> = body.chars().collect();
    characters
        .chunks(size.get())
        .map(|piece| piece.iter().collect())
        .chain([String::new()])
        .collect()
}

fn put_field(head: &mut Vec<u8>, name: &str, value: &str) {
    head.extend(latin1::bytes(&format!("{name}: {value}\r\n")));
}

async fn read_body_into(
    reader: &mut (impl AsyncBufRead + Unpin),
    head: &Head,
    kind: Kind,
    body: &mut Body,
) -> io::Result<()> {
    let is_chunked = head
        .values("transfer-encoding")
        .last()
        .is_some_and(|coding| coding.to_ascii_lowercase().ends_with("chunked"));
    let length: Option<u64> = head
        .values("content-length")
        .first()
        .and_then(|length| length.parse().ok());
    if kind == Kind::Bodiless {
        // Nothing follows.
    } else if is_chunked {
        while let Some(line) = read_line(reader).await? {
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                body.is_complete = read_fields(reader, &mut body.trailers).await?;
                return Ok(());
            }
            reader.take(size).read_to_end(&mut body.bytes).await?;
            read_line(reader).await?;
        }
        return Ok(());
    } else if let Some(length) = length {
        let read = reader.take(length).read_to_end(&mut body.bytes).await?;
        body.is_complete = u64::try_from(read).is_ok_and(|read| read == length);
        return Ok(());
    } else if kind == Kind::Response {
        reader.read_to_end(&mut body.bytes).await?;
    }
    body.is_complete = true;
    Ok(())
}

/// Reads field lines up to the empty line; returns false if the connection ends before it.
async fn read_fields(
    reader: &mut (impl AsyncBufRead + Unpin),
    lines: &mut Vec<String>,
) -> io::Result<bool> {
    while let Some(line) = read_line(reader).await? {
        if line.is_empty() {
            return Ok(true);
        }
        lines.push(line);
    }
    Ok(false)
}

/// Reads a line without its end; `None` at the end of the connection.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).await?;
    let line = line.strip_suffix(b"\n");
    Ok(line.map(|line| latin1::text(line.strip_suffix(b"\r").unwrap_or(line))))
}

/// Latin-1 has whitespace above ASCII, which is part of a value.
fn is_whitespace(character: char) -> bool {
    character.is_ascii_whitespace()
}

/// A blocking reader as an asynchronous one that is always ready.
struct Blocking<'r, R>(&'r mut R);

impl<R: io::BufRead> AsyncRead for Blocking<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.0.read(buffer.initialize_unfilled());
        Poll::Ready(read.map(|length| buffer.advance(length)))
    }
}

impl<R: io::BufRead> AsyncBufRead for Blocking<'_, R> {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Poll::Ready(self.get_mut().0.fill_buf())
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().0.consume(amount);
    }
}

/// Runs a future that reads from [`Blocking`] and from nothing else, so that it never has to wait.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a blocking reader is always ready"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(frames: &[&str], trailers: &[(&str, &str)]) -> Content {
        let trailers: Vec<Field> = trailers
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let frames: Vec<String> = frames.iter().map(|&frame| frame.to_owned()).collect();
        match frames.as_slice() {
            [body] => Content::new(body, &[], &trailers),
            frames => Content::new("", frames, &trailers),
        }
    }

    #[track_caller]
    fn check(content: &Content, kind: Kind, want: &str) {
        let pieces = pieces("X", &[], content, kind);
        let text: Vec<String> = pieces
            .iter()
            .map(|piece| piece.escape_ascii().to_string())
            .collect();
        assert_eq!(text.join("|"), want);
    }

    #[test]
    fn a_message_has_the_length_it_needs() {
        check(&content(&[], &[]), Kind::Request, r"X\r\n\r\n");
        check(
            &content(&[], &[]),
            Kind::Response,
            r"X\r\ncontent-length: 0\r\n\r\n",
        );
        check(
            &content(&["ab"], &[]),
            Kind::Request,
            r"X\r\ncontent-length: 2\r\n\r\nab",
        );
        check(
            &content(&["ab"], &[]),
            Kind::Bodiless,
            r"X\r\ncontent-length: 2\r\n\r\n",
        );
        check(
            &content(&["ab", "c", ""], &[]),
            Kind::Request,
            r"X\r\ntransfer-encoding: chunked\r\n\r\n|2\r\nab\r\n|1\r\nc\r\n|0\r\n\r\n",
        );
        check(
            &content(&["ab"], &[("t", "1")]),
            Kind::Response,
            r"X\r\ntransfer-encoding: chunked\r\n\r\n|2\r\nab\r\n|0\r\nt: 1\r\n\r\n",
        );
    }

    #[test]
    fn frames_with_a_length_are_not_chunked() {
        let fields = [("Content-Length".to_owned(), "3".to_owned())];
        let pieces = pieces("X", &fields, &content(&["ab", "c", ""], &[]), Kind::Request);
        let want: [&[u8]; 3] = [b"X\r\nContent-Length: 3\r\n\r\n", b"ab", b"c"];
        assert_eq!(pieces, want);
    }

    #[test]
    fn a_written_message_is_read_back() {
        for (content, trailers) in [
            (content(&["ab"], &[]), 0),
            (content(&["a", "b"], &[("t", "1")]), 1),
        ] {
            let fields = [("A".to_owned(), " 1 ".to_owned())];
            let bytes = pieces("X", &fields, &content, Kind::Request).concat();
            let read = |mut reader: &[u8]| {
                let head = read_head_blocking(&mut reader).unwrap().unwrap();
                assert_eq!(head.values("a"), ["1"]);
                read_body_blocking(&mut reader, &head, Kind::Request)
            };
            let body = read(&bytes);
            assert_eq!(
                (body.bytes.as_slice(), body.trailers.len(), body.is_complete),
                (&b"ab"[..], trailers, true)
            );
            assert!(!read(bytes.split_last().unwrap().1).is_complete);
        }
    }

    #[test]
    fn interim_responses_are_skipped() {
        let mut bytes = &b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 \xe9\r\n\r\nnext"[..];
        let response = read_response_blocking(&mut bytes, "GET").unwrap().unwrap();
        assert_eq!(
            (response.status, response.head.start()),
            (204, "HTTP/1.1 204 \u{e9}")
        );
        assert_eq!(bytes, b"next");
        let cut = read_response_blocking(&mut &b"HTTP/1.1 200 OK\r\n"[..], "GET").unwrap();
        assert_eq!(cut, None);
    }
}
