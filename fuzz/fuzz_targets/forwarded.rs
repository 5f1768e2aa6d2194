//! Fuzzes the forwarding headers, `X-Forwarded-*` and `Forwarded`, of a trusted and of an untrusted peer.
#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use fluxlit_fuzz::{Message, assert_sendable, lines};
use fluxlit_policy::{Action, Defaults, Peer, Policy, Request};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 12] = [
    "x-forwarded-for",
    "X-Forwarded-For",
    "forwarded",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-real-ip",
    "x_forwarded_for",
    "cf-connecting-ip",
    "connection",
    "cookie",
];

static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    [
        r#""forwarded_allow_ips": "10.0.0.0/8""#,
        r#""forwarded_allow_ips": "10.0.0.0/8", "forwarded_source": "forwarded", "emit_forwarded": true"#,
        r#""forwarded_allow_ips": "10.0.0.0/8", "xff_mode": "chain", "prefix_from_header": true, "root_path": "/app", "root_path_shape": "auto""#,
        r#""forwarded_allow_ips": "10.0.0.0/8", "client_ip_header": "cf-connecting-ip""#,
        r#""trusted_hops": 2"#,
    ]
    .iter()
    .map(|settings| {
        let text = format!(r#"{{"trust_proxy": true, {settings}}}"#);
        Policy::from_json(text.as_bytes(), Defaults::FILTER).expect("a configuration")
    })
    .collect()
});

fuzz_target!(|bytes: &[u8]| {
    let headers = lines(&NAMES, bytes);
    for policy in POLICIES.iter() {
        for peer in ["10.0.0.1", "203.0.113.9"] {
            let address: IpAddr = peer.parse().expect("an address");
            let mut message = Message::new(b"/x", &headers);
            let decision = policy.request(&Request {
                peer: Peer::Ip(address),
                identity: None,
                is_reentry: false,
                tls: false,
                method: b"GET",
                target: b"/x",
                host: Some(b"app.example"),
                headers: &headers,
            });
            let Action::Forward(forward) = decision.action else {
                panic!("a valid target is forwarded");
            };
            assert_sendable(&forward.edits);
            message.apply(&forward.edits);
            let real_ip = message.all("x-real-ip");
            let client = std::str::from_utf8(real_ip[0]).expect("text");
            assert_eq!(real_ip.len(), 1);
            let read: IpAddr = client.parse().expect("an address");
            assert_eq!(read.to_string(), client, "the canonical form");
            assert_eq!(message.all("x-forwarded-for").len(), 1);
            assert_eq!(message.all("x-forwarded-proto").len(), 1);
            assert_eq!(message.all("x-forwarded-host").len(), 1);
            assert_eq!(message.all("x-forwarded-port").len(), 1);
            assert!(message.all("x_forwarded_for").is_empty());
            let unknown = policy.request(&Request {
                peer: Peer::Unknown,
                identity: None,
                is_reentry: false,
                tls: false,
                method: b"GET",
                target: b"/x",
                host: None,
                headers: &headers,
            });
            assert!(!unknown.exchange.peer_trusted, "an unknown peer is trusted");
            if !decision.exchange.peer_trusted {
                assert_eq!(client, peer, "an untrusted peer sets the client");
            }
        }
    }
});
