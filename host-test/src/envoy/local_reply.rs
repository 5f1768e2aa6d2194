//! Turns a local reply of the filter into the response that the client receives.
//!
//! This is `proxy_send_local_response` with what Envoy 1.40 adds: with a body, `content-length` and, unless given,
//! `content-type: text/plain`; without a body, neither. For a gRPC request it becomes a response of status 200 with
//! `grpc-status` and `grpc-message`, as the gRPC protocol over HTTP/2 describes. `date` and `server` are not added because
//! they do not depend on the filter.

use super::inline_headers;
use crate::abi::{HeaderMap, MapId};
use crate::event::Side;

/// A local reply, as passed to `proxy_send_local_response`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// The callback that sent it, such as `proxy_on_request_headers`; empty for a reply of Envoy itself.
    pub callback: &'static str,
    /// The HTTP status.
    pub status: u32,
    /// The response code details for the access log, with white space replaced by `_`.
    pub details: String,
    /// The body.
    pub body: Vec<u8>,
    /// Header lines in addition to those that the host adds.
    pub headers: HeaderMap,
    /// The gRPC status, if it is one of 0 to 16.
    pub grpc_status: Option<u32>,
}

impl LocalReply {
    /// Creates Envoy's reply for a filter that failed.
    pub(crate) fn for_failed_filter() -> Self {
        Self {
            callback: "",
            status: 503,
            details: "wasm_fail_stream".to_owned(),
            body: Vec::new(),
            headers: HeaderMap::default(),
            grpc_status: None,
        }
    }

    /// Creates Envoy's reply for a body that exceeds the buffer limit.
    pub(crate) fn for_too_large(side: Side) -> Self {
        let (status, details, body) = match side {
            Side::Request => (413, "request_payload_too_large", "Payload Too Large"),
            Side::Response => (500, "response_payload_too_large", "Internal Server Error"),
        };
        Self {
            callback: "",
            status,
            details: details.to_owned(),
            body: body.as_bytes().to_vec(),
            headers: HeaderMap::default(),
            grpc_status: None,
        }
    }

    /// Returns the headers and body of the response to `request`.
    pub(crate) fn to_response(&self, request: Option<&HeaderMap>) -> (HeaderMap, Vec<u8>) {
        let mut headers = HeaderMap::default();
        let header = |name| request.and_then(|request| request.get(name));
        let is_grpc = header("content-type").is_some_and(is_grpc);
        let status = if is_grpc { 200 } else { self.status };
        headers.add(b":status", status.to_string().as_bytes());
        for (name, value) in self.headers.iter() {
            if name != b":status" {
                inline_headers::add(&mut headers, MapId::ResponseHeaders, name, value);
            }
        }
        if is_grpc {
            let grpc_status = self
                .grpc_status
                .unwrap_or_else(|| grpc_status_for(self.status));
            headers.replace(b"content-type", b"application/grpc");
            headers.replace(b"grpc-status", grpc_status.to_string().as_bytes());
            if !self.body.is_empty() {
                headers.replace(b"grpc-message", &percent_encode(&self.body));
            }
            return (headers, Vec::new());
        }
        if self.body.is_empty() {
            headers.remove(b"content-length");
            headers.remove(b"content-type");
            return (headers, Vec::new());
        }
        headers.replace(b"content-length", self.body.len().to_string().as_bytes());
        if headers.get("content-type").is_none() {
            headers.add(b"content-type", b"text/plain");
        }
        let is_head = header(":method") == Some(b"HEAD");
        let body = if is_head {
            Vec::new()
        } else {
            self.body.clone()
        };
        (headers, body)
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}

/// Maps an HTTP status to a gRPC status, as the gRPC document on HTTP to gRPC status codes does.
pub(crate) fn grpc_status_for(status: u32) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Percent-encodes a `grpc-message`: everything outside printable ASCII, and `%`.
fn percent_encode(text: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b' '..=b'~' if *byte != b'%' => encoded.push(*byte),
            _ => encoded.extend(format!("%{byte:02X}").into_bytes()),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::lines;

    fn reply(body: &str, headers: &[(&str, &str)]) -> LocalReply {
        LocalReply {
            callback: "proxy_on_request_headers",
            status: 403,
            details: String::new(),
            body: body.into(),
            headers: lines(headers),
            grpc_status: None,
        }
    }

    #[test]
    fn body_adds_its_length_and_type() {
        let (headers, body) = reply("no", &[("x", "1")]).to_response(None);
        let want = [
            (":status", "403"),
            ("x", "1"),
            ("content-length", "2"),
            ("content-type", "text/plain"),
        ];
        assert_eq!(headers, lines(&want));
        assert_eq!(body, b"no");
    }

    #[test]
    fn no_body_means_no_length_and_type() {
        let (headers, _) = reply("", &[("content-type", "text/html")]).to_response(None);
        assert_eq!(headers, lines(&[(":status", "403")]));
    }

    #[test]
    fn status_among_the_headers_is_ignored() {
        let (headers, _) = reply("", &[(":status", "200")]).to_response(None);
        assert_eq!(headers, lines(&[(":status", "403")]));
    }

    #[test]
    fn head_response_has_the_length_but_no_body() {
        let request = lines(&[(":method", "HEAD")]);
        let (headers, body) = reply("no", &[]).to_response(Some(&request));
        assert_eq!(headers.get("content-length"), Some(&b"2"[..]));
        assert!(body.is_empty());
    }

    #[test]
    fn grpc_request_gets_a_grpc_response() {
        let request = lines(&[("content-type", "application/grpc+proto")]);
        let (headers, body) = reply("n\u{f6}", &[]).to_response(Some(&request));
        let want = [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "7"),
            ("grpc-message", "n%C3%B6"),
        ];
        assert_eq!(headers, lines(&want));
        assert!(body.is_empty());
    }
    #[test]
    fn the_reply_for_a_failed_filter_is_503_without_a_body() {
        let (headers, body) = LocalReply::for_failed_filter().to_response(None);
        assert_eq!(headers, lines(&[(":status", "503")]));
        assert!(body.is_empty());
    }

    #[test]
    fn a_given_content_type_is_kept() {
        let (headers, _) = reply("no", &[("content-type", "text/html")]).to_response(None);
        assert_eq!(headers.get_all("content-type"), [b"text/html"]);
    }

    #[test]
    fn an_http_status_has_a_grpc_status() {
        let request = lines(&[("content-type", "application/grpc")]);
        for (status, given, want) in [
            (400, None, "13"),
            (401, None, "16"),
            (403, None, "7"),
            (404, None, "12"),
            (429, None, "14"),
            (502, None, "14"),
            (503, None, "14"),
            (504, None, "14"),
            (500, None, "2"),
            (200, None, "2"),
            (403, Some(5), "5"),
        ] {
            let reply = LocalReply {
                status,
                grpc_status: given,
                ..reply("", &[])
            };
            let (headers, _) = reply.to_response(Some(&request));
            let want = [
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", want),
            ];
            assert_eq!(headers, lines(&want), "{status}");
        }
    }

    #[test]
    fn a_content_type_that_resembles_grpc_is_another_one() {
        for (content_type, is_grpc) in [
            ("application/grpc", true),
            ("application/grpc+json", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let request = lines(&[("content-type", content_type)]);
            let (headers, _) = reply("", &[]).to_response(Some(&request));
            let status = headers.get(":status");
            assert_eq!(status == Some(&b"200"[..]), is_grpc, "{content_type}");
        }
    }

    #[test]
    fn a_grpc_message_is_percent_encoded() {
        assert_eq!(percent_encode(b" ~a%\x1f\x7f\n"), b" ~a%25%1F%7F%0A");
    }
}
