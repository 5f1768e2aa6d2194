//! Says in gRPC what a response says in HTTP, as Envoy does for its own responses.
//!
//! Envoy's function for responses of a dynamic module sends `grpc-status: 0`, which means success.

use std::fmt::Write as _;

/// Returns true for the content types of gRPC: `application/grpc`, alone or before `+` or `;`.
pub(crate) fn is_content_type(value: &[u8]) -> bool {
    value
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// Returns the status of gRPC that clients derive from one of HTTP, by the gRPC specification ("HTTP to gRPC Status Code
/// Mapping").
pub(crate) fn status(http: u16) -> &'static str {
    match http {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502 | 503 | 504 => "14",
        _ => "2",
    }
}

/// Encodes a text for `grpc-message`: everything but visible ASCII and spaces is percent-encoded, and the percent sign.
pub(crate) fn message(text: &[u8]) -> String {
    let mut message = String::new();
    for octet in text.trim_ascii() {
        match octet {
            b'%' => message.push_str("%25"),
            b' '..=b'~' => message.push(char::from(*octet)),
            octet => {
                // Writing to a string cannot fail.
                let _ = write!(message, "%{octet:02X}");
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (value, is_grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_content_type(value.as_bytes()), is_grpc, "{value}");
        }
    }

    #[test]
    fn statuses() {
        let statuses = [400, 401, 403, 404, 421, 429, 500, 503].map(status);
        assert_eq!(statuses, ["13", "16", "7", "12", "2", "14", "2", "14"]);
    }

    #[test]
    fn messages() {
        for (text, encoded) in [
            (
                "No app is published at this path.\n",
                "No app is published at this path.",
            ),
            ("100 %", "100 %25"),
            ("\u{e9}", "%C3%A9"),
        ] {
            assert_eq!(message(text.as_bytes()), encoded);
        }
    }
}
