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
