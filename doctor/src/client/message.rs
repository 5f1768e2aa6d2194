//! Reads HTTP/1.1 responses as they are on the wire.
//!
//! Field lines keep their order and repetitions, because a proxy that sends a field twice is one of the faults to find.

use sha2::{Digest as _, Sha256};

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The fields in their order, with names in lower case.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The content, as far as it was read.
    pub body: Vec<u8>,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// This many bytes.
    Length(usize),
    /// Chunks.
    Chunked,
    /// Everything until the connection ends.
    UntilClosed,
}

impl Response {
    /// Parses a head that ends with an empty line; `None` if it is no HTTP/1 response.
    pub(crate) fn parse(head: &[u8]) -> Option<Self> {
        let mut lines = head
            .split(|octet| *octet == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let start = std::str::from_utf8(lines.next()?.get(..12)?).ok()?;
        let status = start.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()?;
        let fields = lines.filter_map(|line| {
            let colon = line.iter().position(|octet| *octet == b':')?;
            let (name, value) = line.split_at_checked(colon)?;
            let value = value.get(1..)?.trim_ascii().to_vec();
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            Some((name, value))
        });
        Some(Self {
            status,
            fields: fields.collect(),
            body: Vec::new(),
        })
    }

    /// Returns the values of a field, one for each line.
    pub fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let lines = self.fields.iter().filter(move |(known, _)| known == name);
        lines.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// Returns the value of the first line of a field; empty if there is none.
    pub fn first(&self, name: &str) -> String {
        self.lines(name).next().unwrap_or_default()
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns true if the body begins as HTML does, whatever its media type is.
    pub(crate) fn has_markup(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"<")
    }

    /// Returns true if the body is HTML, by its media type.
    pub fn is_html(&self) -> bool {
        let media_type = self.first("content-type");
        media_type
            .trim_start()
            .get(..9)
            .is_some_and(|start| start.eq_ignore_ascii_case("text/html"))
    }

    /// Returns true if this is the response of Streamlit's health check, which is `ok` as plain text. Every other path of
    /// Streamlit is answered with its page.
    pub fn is_healthy(&self) -> bool {
        self.says_ok() && !self.is_html()
    }

    /// Returns true if this has the content of Streamlit's health check, whatever its media type is.
    pub(crate) fn says_ok(&self) -> bool {
        self.status == 200 && self.body.trim_ascii() == b"ok"
    }

    /// Returns true if this is Streamlit's page.
    pub fn is_page(&self) -> bool {
        self.is_html() && self.has_page()
    }

    /// Returns true if this has the content of Streamlit's page, whatever its media type is.
    pub(crate) fn has_page(&self) -> bool {
        let text = self.text();
        self.status == 200 && text.contains("<div id=\"root\">") && text.contains("static/")
    }

    /// Returns how the end of the body is found. `method`: the one of the request.
    pub(crate) fn framing(&self, method: &str) -> Framing {
        if method == "HEAD" || self.status < 200 || matches!(self.status, 204 | 304) {
            return Framing::None;
        }
        let coding = self.first("transfer-encoding").to_ascii_lowercase();
        if coding.contains("chunked") {
            return Framing::Chunked;
        }
        let length = self.first("content-length");
        length.parse().map_or(Framing::UntilClosed, Framing::Length)
    }
}

/// Joins the chunks of a body that was received completely or in part.
pub(crate) fn without_chunks(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let Some((size, start)) = chunk_size(body) else {
            return content;
        };
        let rest = body.get(start..).unwrap_or_default();
        if size == 0 {
            return content;
        }
        content.extend_from_slice(rest.get(..size).unwrap_or(rest));
        body = rest.get(size.saturating_add(2)..).unwrap_or_default();
    }
}

/// Returns true if a chunked body is complete, except for its trailers.
pub(crate) fn has_last_chunk(mut body: &[u8]) -> bool {
    while let Some((size, start)) = chunk_size(body) {
        if size == 0 {
            return true;
        }
        let end = start.saturating_add(size).saturating_add(2);
        body = body.get(end..).unwrap_or_default();
    }
    false
}

fn chunk_size(body: &[u8]) -> Option<(usize, usize)> {
    let end = body.windows(2).position(|pair| pair == b"\r\n")?;
    let line = std::str::from_utf8(body.get(..end)?).ok()?;
    let digits = line.split(';').next()?.trim();
    let size = usize::from_str_radix(digits, 16).ok()?;
    Some((size, end.saturating_add(2)))
}

/// Returns a short hash of a value that must not be shown, so that two reports can be compared.
pub(crate) fn hash(value: &[u8]) -> String {
    let hash = Sha256::digest(value);
    hash.iter()
        .take(4)
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(head: &str) -> Response {
        Response::parse(head.as_bytes()).expect("a response")
    }

    #[test]
    fn repeated_fields_are_kept() {
        let read = response("HTTP/1.1 200 OK\r\nA: 1\r\na:2 \r\n\r\n");
        assert_eq!(read.lines("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(read.first("b"), "");
        assert_eq!(Response::parse(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), None);
        assert_eq!(Response::parse(b"HTTP/1.1 2"), None);
    }

    #[test]
    fn the_framing_follows_the_status_and_the_fields() {
        for (head, method, expected) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
                "GET",
                Framing::Length(7),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
                "HEAD",
                Framing::None,
            ),
            ("HTTP/1.1 304 Not Modified\r\n\r\n", "GET", Framing::None),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                "GET",
                Framing::Chunked,
            ),
            ("HTTP/1.0 200 OK\r\n\r\n", "GET", Framing::UntilClosed),
        ] {
            assert_eq!(response(head).framing(method), expected, "{head}");
        }
    }

    #[test]
    fn chunks_are_joined() {
        for (body, content, is_complete) in [
            (
                &b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"[..],
                &b"abcde"[..],
                true,
            ),
            (b"3\r\nabc\r\nff\r\nd", b"abcd", false),
            (b"", b"", false),
            (b"zz\r\n", b"", false),
        ] {
            assert_eq!(without_chunks(body), content);
            assert_eq!(has_last_chunk(body), is_complete);
        }
    }

    #[test]
    fn only_plain_ok_is_healthy() {
        for (head, body, expected) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n",
                "ok",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n",
                "ok",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n",
                "OK, ready",
                false,
            ),
            (
                "HTTP/1.1 503 No\r\ncontent-type: text/plain\r\n\r\n",
                "ok",
                false,
            ),
        ] {
            let mut read = response(head);
            read.body = body.into();
            assert_eq!(read.is_healthy(), expected, "{head}{body}");
        }
    }
}
