//! Fuzzes responses of the app: rewriting redirects and cookies is idempotent, and cannot split the response.
#![no_main]

use std::sync::LazyLock;

use fluxlit_fuzz::{Message, assert_sendable, lines};
use fluxlit_policy::{Defaults, Peer, Policy, Request, Response};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = [
    "location",
    "content-location",
    "refresh",
    "set-cookie",
    "strict-transport-security",
    "content-security-policy",
];

static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    [
        r#""hsts": true"#,
        r#""hsts": {"mode": "upstream"}, "upstream_path": "full", "cookie_path": "confine""#,
        r#""hsts": {"mode": "gateway"}, "security_headers": true, "public_base_url": "https://portal.example/p""#,
        r#""content_security_policy": [{"path_prefix": "/", "value": "default-src 'self'"}]"#,
    ]
    .iter()
    .map(|settings| {
        let text = format!(
            r#"{{"root_path": "/m", "upstream_authorities": ["127.0.0.1:8501"], {settings}}}"#
        );
        Policy::from_json(text.as_bytes(), Defaults::FILTER).expect("a configuration")
    })
    .collect()
});

fuzz_target!(|bytes: &[u8]| {
    let headers = lines(&NAMES, bytes);
    for policy in POLICIES.iter() {
        let decision = policy.request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls: true,
            method: b"GET",
            target: b"/m/x",
            host: Some(b"app.example"),
            headers: &[],
        });
        let mut message = Message::new(b"", &headers);
        let respond = |message: &Message| {
            let headers = message.headers();
            policy.response(
                &decision.exchange,
                &Response {
                    status: 302,
                    headers: &headers,
                },
            )
        };
        let first = respond(&message);
        assert_sendable(&first.edits);
        message.apply(&first.edits);
        assert!(message.all("strict-transport-security").len() <= 1);
        let second = respond(&message);
        assert!(second.edits.is_empty(), "{first:?} {second:?}");
    }
});
