//! What goes downstream when the filter answers a request itself?
//!
//! `proxy_send_local_response` with what Envoy 1.40 adds to it: `content-length` and, unless given, `content-type:
//! text/plain` if there is a body; neither if there is none. On a gRPC request it becomes an answer of status 200 with
//! `grpc-status` and `grpc-message`, as the gRPC protocol over HTTP/2 describes. `date` and `server` are not added:
//! they say nothing about the filter.

use crate::abi::MapId;
use crate::abi::header_map::HeaderMap;
use crate::envoy::inline_headers;

/// An answer of the filter's own, as passed to `proxy_send_local_response`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// The callback that answered, such as `proxy_on_request_headers`; empty for the answer in place of a filter that
    /// failed.
    pub callback: &'static str,
    /// The HTTP status.
    pub status: u32,
    /// The reason for the access log, with spaces replaced by `_`.
    pub details: String,
    /// The body.
    pub body: Vec<u8>,
    /// Lines in addition to those that the host adds.
    pub headers: HeaderMap,
    /// A gRPC status, if it is one of 0 to 16.
    pub grpc_status: Option<u32>,
}

impl LocalReply {
    /// Envoy's answer in place of a filter that failed.
    pub(crate) fn of_failed_filter() -> Self {
        Self {
            callback: "",
            status: 503,
            details: "wasm_fail_stream".to_owned(),
            body: Vec::new(),
            headers: HeaderMap::default(),
            grpc_status: None,
        }
    }

    /// The response it becomes, for `request`.
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
            let grpc_status = self.grpc_status.unwrap_or_else(|| grpc_of(self.status));
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

/// The gRPC status for an HTTP status, from the gRPC document on HTTP to gRPC status code mapping.
fn grpc_of(status: u32) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Encodes a `grpc-message`: everything outside printable ASCII, and `%`.
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
    use crate::abi::header_map::lines;

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
    fn a_body_brings_its_length_and_type() {
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
    fn no_body_no_length() {
        let (headers, _) = reply("", &[("content-type", "text/html")]).to_response(None);
        assert_eq!(headers, lines(&[(":status", "403")]));
    }

    #[test]
    fn a_status_among_the_headers_does_not_double() {
        let (headers, _) = reply("", &[(":status", "200")]).to_response(None);
        assert_eq!(headers, lines(&[(":status", "403")]));
    }

    #[test]
    fn head_gets_the_length_without_the_body() {
        let request = lines(&[(":method", "HEAD")]);
        let (headers, body) = reply("no", &[]).to_response(Some(&request));
        assert_eq!(headers.get("content-length"), Some(&b"2"[..]));
        assert!(body.is_empty());
    }

    #[test]
    fn grpc_gets_its_own_form() {
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
}
