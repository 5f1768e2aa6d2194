//! Tests edits of responses that hosts cannot play, because their HTTP parsers reject the input.

use fluxlit_policy::{Header, Response};

use crate::support::{get, policy, texts};

#[test]
fn a_line_that_ends_early_is_not_written() {
    let policy = policy(r#"{"root_path": "/m"}"#);
    let decision = policy.request(&get("192.0.2.1", "/m/x", &[]));
    for broken in ["c=d\r\nx: y", "c=d\nx: y", "c=d\rx", "c=d\0"] {
        let headers: [Header<'_>; 2] = [
            (b"set-cookie", b"a=b; Path=/"),
            (b"set-cookie", broken.as_bytes()),
        ];
        let response = Response {
            status: 200,
            headers: &headers,
        };
        let edits = policy.response(&decision.exchange, &response).edits;
        assert_eq!(
            texts(&edits),
            ["set set-cookie: a=b; Path=/m"],
            "{broken:?}"
        );
    }
}

#[test]
fn only_fields_with_urls_are_rewritten() {
    let policy = policy(r#"{"root_path": "/m", "upstream_authorities": ["app.internal"]}"#);
    let decision = policy.request(&get("192.0.2.1", "/m/x", &[]));
    let edits = |name: &str, value: &str| {
        let response = Response {
            status: 200,
            headers: &[(name.as_bytes(), value.as_bytes())],
        };
        texts(&policy.response(&decision.exchange, &response).edits)
    };
    for (name, value) in [
        ("access-control-allow-origin", "http://app.internal"),
        ("content-location", "/a"),
        ("link", "</a>; rel=preload"),
        ("location", "/a"),
        ("refresh", "5; url=/a"),
        ("service-worker-allowed", "/a"),
        ("set-cookie", "a=b; Path=/"),
        ("sourcemap", "/a"),
        ("timing-allow-origin", "http://app.internal"),
        ("x-sourcemap", "/a"),
    ] {
        assert_eq!(edits(name, value).len(), 1, "{name}");
        // A field of the same length is another one.
        let other = "x".repeat(name.len());
        assert_eq!(edits(&other, value), [""; 0], "{name}");
    }
}
