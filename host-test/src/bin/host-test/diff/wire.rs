//! How does an HTTP/1 message go over a connection exactly as a case has it?
//!
//! Libraries correct what they send and refuse what they don't like. What a host makes of a message that is not quite
//! right is what is compared here, so the bytes are written as the case has them, and read leniently.

use std::io;

use host_test::HeaderMap;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use super::content::Content;

/// The first line of a message, and its fields.
pub(super) struct Head {
    pub(super) start: Vec<u8>,
    pub(super) headers: HeaderMap,
}

/// What came behind the head.
#[derive(Default)]
pub(super) struct Rest {
    pub(super) body: Vec<u8>,
    pub(super) trailers: HeaderMap,
    /// Whether it came to its end.
    pub(super) is_complete: bool,
}

/// Whose body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Without a length there is no body.
    Request,
    /// Without a length the body ends with the connection.
    Response,
    /// There is no body, whatever the fields say.
    Bodiless,
}

/// A message as bytes: the head, then each frame, then the end. Nothing of it is empty.
pub(super) fn pieces(
    start: &[u8],
    fields: &[Field],
    content: &Content,
    kind: Kind,
) -> Vec<Vec<u8>> {
    let has = |name: &str| {
        fields
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
    };
    let is_chunked = (content.has_frames || !content.trailers.is_empty()) && kind != Kind::Bodiless;
    let length: usize = content.frames.iter().map(Vec::len).sum();
    let mut head = [start, b"\r\n"].concat();
    for (name, value) in fields {
        put_field(&mut head, name, value);
    }
    if is_chunked && !has("transfer-encoding") {
        put_field(&mut head, b"transfer-encoding", b"chunked");
    } else if !is_chunked && !has("content-length") && !has("transfer-encoding") {
        // A request without a body needs no length, a response does: it would end with the connection.
        if length > 0 || kind == Kind::Response {
            put_field(&mut head, b"content-length", length.to_string().as_bytes());
        }
    }
    head.extend(b"\r\n");
    let mut pieces = vec![head];
    if kind == Kind::Bodiless {
        return pieces;
    }
    if !is_chunked {
        // What needs no frames of its own goes with the head, as most clients send it.
        pieces
            .iter_mut()
            .for_each(|head| head.extend(content.frames.concat()));
        return pieces;
    }
    for frame in content.frames.iter().filter(|frame| !frame.is_empty()) {
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

/// Reads a head; `None` if the connection ends before it does.
pub(super) async fn read_head(
    reader: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Option<Head>> {
    let Some(start) = read_line(reader).await? else {
        return Ok(None);
    };
    Ok(read_fields(reader)
        .await?
        .map(|headers| Head { start, headers }))
}

/// Reads what comes behind a head. A connection that ends too early leaves it incomplete.
pub(super) async fn read_rest(
    reader: &mut (impl AsyncBufRead + Unpin),
    headers: &HeaderMap,
    kind: Kind,
) -> Rest {
    let mut rest = Rest::default();
    // The error says no more than that the end is missing.
    let _ = read_rest_into(reader, headers, kind, &mut rest).await;
    rest
}

async fn read_rest_into(
    reader: &mut (impl AsyncBufRead + Unpin),
    headers: &HeaderMap,
    kind: Kind,
    rest: &mut Rest,
) -> io::Result<()> {
    let length = headers.get("content-length").and_then(number);
    let is_chunked = headers
        .get("transfer-encoding")
        .is_some_and(|coding| coding.ends_with(b"chunked"));
    if kind == Kind::Bodiless {
        // Nothing follows.
    } else if is_chunked {
        while let Some(line) = read_line(reader).await? {
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(size)
                .ok()
                .and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
            if size == 0 {
                let trailers = read_fields(reader).await?;
                rest.is_complete = trailers.is_some();
                rest.trailers = trailers.unwrap_or_default();
                return Ok(());
            }
            reader.take(size).read_to_end(&mut rest.body).await?;
            read_line(reader).await?;
        }
        return Ok(());
    } else if let Some(length) = length {
        reader.take(length).read_to_end(&mut rest.body).await?;
        rest.is_complete = u64::try_from(rest.body.len()).is_ok_and(|read| read == length);
        return Ok(());
    } else if kind == Kind::Response {
        reader.read_to_end(&mut rest.body).await?;
    }
    rest.is_complete = true;
    Ok(())
}

/// Reads field lines up to the empty one; `None` if the connection ends before it.
async fn read_fields(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<HeaderMap>> {
    let mut headers = HeaderMap::default();
    while let Some(line) = read_line(reader).await? {
        if line.is_empty() {
            return Ok(Some(headers));
        }
        if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            let (name, value) = line.split_at(colon);
            headers.add(name, value.get(1..).unwrap_or_default().trim_ascii());
        }
    }
    Ok(None)
}

/// Reads a line without its end; `None` at the end of the connection.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).await?;
    let line = line.strip_suffix(b"\n");
    Ok(line.map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
}

fn put_field(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.extend([name, b": ", value, b"\r\n"].concat());
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Name and value of a field line.
pub(super) type Field = (Vec<u8>, Vec<u8>);

#[cfg(test)]
mod tests {
    use super::*;

    fn content(frames: &[&str], trailers: &[(&str, &str)]) -> Content {
        let lines = |lines: &[(&str, &str)]| -> Vec<(String, String)> {
            lines
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let frames: Vec<String> = frames.iter().map(|frame| (*frame).to_owned()).collect();
        match frames.as_slice() {
            [body] => Content::new(body, &[], &lines(trailers)),
            frames => Content::new("", frames, &lines(trailers)),
        }
    }

    #[track_caller]
    fn check(content: &Content, kind: Kind, want: &str) {
        let pieces = pieces(b"X", &[], content, kind);
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
    fn what_is_written_is_read_back() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            for (content, trailers) in [
                (content(&["ab"], &[]), 0),
                (content(&["a", "b"], &[("t", "1")]), 1),
            ] {
                let bytes = pieces(
                    b"X",
                    &[(b"A".to_vec(), b" 1 ".to_vec())],
                    &content,
                    Kind::Request,
                )
                .concat();
                let mut reader = bytes.as_slice();
                let head = read_head(&mut reader).await.unwrap().unwrap();
                assert_eq!(head.headers.get("a"), Some(&b"1"[..]));
                let rest = read_rest(&mut reader, &head.headers, Kind::Request).await;
                assert_eq!(
                    (rest.body.as_slice(), rest.trailers.len(), rest.is_complete),
                    (&b"ab"[..], trailers, true)
                );
                let cut = bytes.len() - 1;
                let mut reader = bytes.get(..cut).unwrap_or_default();
                let head = read_head(&mut reader).await.unwrap().unwrap();
                let rest = read_rest(&mut reader, &head.headers, Kind::Request).await;
                assert!(!rest.is_complete);
            }
        });
    }
}
