//! Models what Envoy's codecs do with the messages that filters forward.
//!
//! A filter may leave fields that cannot be sent. Envoy replies to such a request itself, as it does to one without a route;
//! it replaces such a response with another one or resets the stream. Over HTTP/1 it does not check response fields, so a line
//! break in a value splits the response. Measured in Envoy 1.40.

use std::collections::VecDeque;

use crate::abi::HeaderMap;
use crate::event::{Event, Message};

/// A response that Envoy sends in place of the upstream or of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorReply {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl ErrorReply {
    fn new(status: u16, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    /// Returns the events of the response, as if an upstream sent it.
    pub(crate) fn events(&self) -> VecDeque<Event> {
        let Message { headers, body, .. } = self.message();
        let is_whole = body.is_empty();
        let mut events = VecDeque::from([Event::Headers(headers, is_whole)]);
        if !is_whole {
            events.push_back(Event::Body(body, true));
        }
        events
    }

    pub(crate) fn message(&self) -> Message {
        let mut headers = HeaderMap::default();
        headers.add(b":status", self.status.to_string().as_bytes());
        headers.add(b"content-length", self.text.len().to_string().as_bytes());
        if !self.text.is_empty() {
            headers.add(b"content-type", b"text/plain");
        }
        Message {
            headers,
            body: self.text.clone().into_bytes(),
            trailers: HeaderMap::default(),
            is_complete: true,
        }
    }
}

/// Returns Envoy's reply to a request that cannot be sent to an upstream; `None` if it can.
pub(crate) fn check_request(headers: &HeaderMap) -> Option<ErrorReply> {
    let is_missing = |name| headers.get(name).is_none_or(<[u8]>::is_empty);
    // Without a path no route matches.
    if is_missing(":path") && headers.get(":method") != Some(b"CONNECT") {
        return Some(ErrorReply::new(404, ""));
    }
    if headers.get(":method").is_none() {
        return Some(ErrorReply::new(503, "missing required header: :method"));
    }
    headers.iter().find_map(|(name, value)| {
        if !name.starts_with(b":") && !name.iter().copied().all(is_token) {
            let text = format!("invalid header name: {}", escaped(name));
            Some(ErrorReply::new(503, text))
        } else if value.iter().copied().any(is_control) {
            let text = format!("invalid header value for: {}", escaped(name));
            Some(ErrorReply::new(503, text))
        } else {
            None
        }
    })
}

/// Returns the headers as an upstream receives them.
pub(crate) fn sent_request(headers: &HeaderMap) -> HeaderMap {
    let known: [&[u8]; 5] = [
        b":authority",
        b":method",
        b":path",
        b":protocol",
        b":scheme",
    ];
    headers
        .iter()
        .filter(|(name, _)| !name.starts_with(b":") || known.contains(name))
        .map(|(name, value)| (name, trim(value)))
        .collect()
}

/// Returns the response as a client receives it; `None` if the stream is reset instead.
pub(crate) fn sent_response(message: Message, is_http2: bool) -> Option<Message> {
    let status = message.headers.get(":status").and_then(|status| {
        let status = std::str::from_utf8(status).ok()?;
        status.trim().parse::<u32>().ok()
    });
    let Some(status) = status else {
        return Some(ErrorReply::new(502, "missing required header: :status").message());
    };
    let is_interim = status < 200 && status != 101;
    let is_unsendable = is_http2 && !(200..=999).contains(&status);
    if is_interim || is_unsendable {
        return None;
    }
    let has_no_body = matches!(status, 101 | 204 | 304);
    let is_hop_by_hop =
        |name: &[u8]| status != 101 && (name == b"upgrade" || name == b"proxy-connection");
    let mut headers = HeaderMap::default();
    for (name, value) in message.headers.iter() {
        let is_other_pseudo = name.starts_with(b":") && name != b":status";
        if is_other_pseudo || is_hop_by_hop(name) {
            continue;
        }
        if is_http2 && value.iter().copied().any(is_control) {
            return None;
        }
        if is_http2 || name == b":status" {
            headers.add(name, value);
        } else {
            add_split(&mut headers, name, value);
        }
    }
    let body = if has_no_body {
        Vec::new()
    } else {
        message.body
    };
    Some(Message {
        headers,
        body,
        ..message
    })
}

/// Adds the lines that an HTTP/1 client reads if a value contains line breaks.
fn add_split(headers: &mut HeaderMap, name: &[u8], value: &[u8]) {
    let line = [name, b": ", value].concat();
    for line in line.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(colon) = line.iter().position(|byte| *byte == b':')
            && let (name, [_, value @ ..]) = line.split_at(colon)
        {
            headers.add(name, trim(value));
        }
    }
}

/// Removes the optional white space of RFC 9110 §5.6.3.
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(start, |end| end + 1);
    value.get(start..end).unwrap_or_default()
}

/// Returns true for a `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

fn escaped(name: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(name).chars() {
        match character {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\0'..='\u{1f}' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => text.push(character),
        }
    }
    text
}
