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
    // A client waits for the response after an interim one. Envoy sends other numbers as they are.
    let is_interim = (100..200).contains(&status) && status != 101;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::lines;

    const REQUEST: [(&str, &str); 2] = [(":method", "GET"), (":path", "/")];

    #[track_caller]
    fn check(fields: &[(&str, &str)], want: Option<(u16, &str)>) {
        let reply = check_request(&lines(fields));
        let got = reply
            .as_ref()
            .map(|reply| (reply.status, reply.text.as_str()));
        assert_eq!(got, want, "{fields:?}");
    }

    #[test]
    fn a_request_needs_a_path_and_a_method() {
        check(&REQUEST, None);
        check(&[(":method", "GET")], Some((404, "")));
        check(&[(":method", "GET"), (":path", "")], Some((404, "")));
        check(&[(":method", "CONNECT"), (":authority", "a:1")], None);
        check(&[], Some((404, "")));
        check(
            &[(":path", "/")],
            Some((503, "missing required header: :method")),
        );
        check(&[(":method", ""), (":path", "/")], None);
    }

    #[test]
    fn a_request_with_an_invalid_field_is_answered() {
        for (name, value, want) in [
            ("x-a", "b", None),
            ("x-a", "", None),
            ("x-a", "b\tc", None),
            ("x-a", "b\u{e9}", None),
            ("!#$%&'*+-.^_`|~09az", "b", None),
            (":other", "b", None),
            ("x a", "b", Some("invalid header name: x a")),
            ("x:a", "b", Some("invalid header name: x:a")),
            ("x(", "b", Some("invalid header name: x(")),
            ("x\u{e9}", "b", Some("invalid header name: x\u{e9}")),
            (
                "x\n\r\t\u{1}",
                "b",
                Some("invalid header name: x\\n\\r\\t\\u0001"),
            ),
            ("x-a", "b\n", Some("invalid header value for: x-a")),
            ("x-a", "\u{7f}", Some("invalid header value for: x-a")),
            (":other", "\r", Some("invalid header value for: :other")),
        ] {
            let fields = [REQUEST[0], REQUEST[1], (name, value)];
            check(&fields, want.map(|text| (503, text)));
        }
    }

    #[test]
    fn an_upstream_receives_trimmed_fields_and_known_pseudo_headers() {
        let sent = sent_request(&lines(&[
            (":authority", "a"),
            (":method", "GET"),
            (":path", "/"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":other", "1"),
            ("x-a", " \tb c\t "),
            ("x-b", " \t"),
        ]));
        assert_eq!(
            sent,
            lines(&[
                (":authority", "a"),
                (":method", "GET"),
                (":path", "/"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                ("x-a", "b c"),
                ("x-b", ""),
            ])
        );
    }

    fn response(status: &str, fields: &[(&str, &str)]) -> Message {
        let status = [(":status", status)];
        Message {
            headers: status.iter().chain(fields).copied().collect(),
            body: b"body".to_vec(),
            trailers: lines(&[("x-trailer", "1")]),
            is_complete: true,
        }
    }

    #[test]
    fn a_response_that_cannot_be_sent_resets_the_stream() {
        for (status, over_http1, over_http2) in [
            ("200", true, true),
            ("999", true, true),
            (" 200 ", true, true),
            ("199", false, false),
            ("100", false, false),
            ("0", true, false),
            ("101", true, false),
            ("1000", true, false),
        ] {
            let is_sent = |is_http2| sent_response(response(status, &[]), is_http2).is_some();
            assert_eq!(is_sent(false), over_http1, "{status} over HTTP/1");
            assert_eq!(is_sent(true), over_http2, "{status} over HTTP/2");
        }
        let broken = response("200", &[("x-a", "b\nc")]);
        assert_eq!(sent_response(broken, true), None);
    }

    #[test]
    fn a_response_without_a_status_is_replaced() {
        for status in ["", "x", "-1", "2e2"] {
            let sent = sent_response(response(status, &[]), false).unwrap();
            assert_eq!(sent.headers.get(":status"), Some(&b"502"[..]), "{status}");
            assert_eq!(sent.body, b"missing required header: :status");
        }
        let sent = sent_response(Message::default(), true).unwrap();
        assert_eq!(
            sent.headers,
            lines(&[
                (":status", "502"),
                ("content-length", "32"),
                ("content-type", "text/plain"),
            ])
        );
        assert!(sent.is_complete && sent.trailers.is_empty());
    }

    #[test]
    fn a_response_that_has_no_content_loses_its_body() {
        for (status, body) in [
            ("101", ""),
            ("204", ""),
            ("304", ""),
            ("200", "body"),
            ("205", "body"),
        ] {
            let sent = sent_response(response(status, &[]), false).unwrap();
            assert_eq!(sent.body, body.as_bytes(), "{status}");
            assert_eq!(sent.trailers, lines(&[("x-trailer", "1")]), "{status}");
        }
    }

    #[test]
    fn a_client_receives_neither_other_pseudo_headers_nor_hop_by_hop_fields() {
        let fields = [
            (":path", "/"),
            ("upgrade", "websocket"),
            ("proxy-connection", "close"),
            ("x-a", " b "),
        ];
        let over_http1 = sent_response(response("200", &fields), false).unwrap();
        assert_eq!(
            over_http1.headers,
            lines(&[(":status", "200"), ("x-a", "b")])
        );
        let over_http2 = sent_response(response("200", &fields), true).unwrap();
        assert_eq!(
            over_http2.headers,
            lines(&[(":status", "200"), ("x-a", " b ")])
        );
        let switching = sent_response(response("101", &fields), false).unwrap();
        assert_eq!(
            switching.headers,
            lines(&[
                (":status", "101"),
                ("upgrade", "websocket"),
                ("proxy-connection", "close"),
                ("x-a", "b"),
            ])
        );
    }

    #[test]
    fn a_line_break_in_a_value_splits_an_http1_response() {
        let fields = [("x-a", "b\r\nx-c: d\ne\r\n: f"), ("x-g", "h\r\r\nx-i:")];
        let sent = sent_response(response("200", &fields), false).unwrap();
        assert_eq!(
            sent.headers,
            lines(&[
                (":status", "200"),
                ("x-a", "b"),
                ("x-c", "d"),
                ("", "f"),
                ("x-g", "h\r"),
                ("x-i", ""),
            ])
        );
    }

    #[test]
    fn a_reply_is_played_like_the_response_of_an_upstream() {
        let names = |events: VecDeque<Event>| -> Vec<String> {
            events
                .into_iter()
                .map(|event| match event {
                    Event::Headers(headers, is_end) => {
                        format!("{} headers, {is_end}", headers.len())
                    }
                    Event::Body(body, is_end) => format!("{} bytes, {is_end}", body.len()),
                    other => format!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(
            names(ErrorReply::new(404, "").events()),
            ["2 headers, true"]
        );
        assert_eq!(
            names(ErrorReply::new(503, "no").events()),
            ["3 headers, false", "2 bytes, true"]
        );
    }
}
