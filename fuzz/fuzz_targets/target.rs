//! Fuzzes request targets: a forwarded target is an unambiguous path, without a dot segment or a fragment.
#![no_main]

use std::sync::LazyLock;

use fluxlit_fuzz::{Message, assert_sendable};
use fluxlit_policy::{Action, Defaults, Peer, Policy, Request};
use libfuzzer_sys::fuzz_target;

static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    [
        r#"{"root_path": "/a/b"}"#,
        r#"{"root_path": "/a/b", "upstream_path": "full", "outside_mount": "reject"}"#,
        r#"{"root_path": "/a/b", "root_path_shape": "auto", "redirect_bare_mount": false}"#,
        r#"{"root_path": "/a/b", "root_path_shape": "stripped", "redirect_to_https": true}"#,
        r#"{"mounts": [{"root_path": "/a"}, {"root_path": "/a/b"}, {"root_path": "/", "hosts": ["*.example"]}]}"#,
    ]
    .iter()
    .map(|text| Policy::from_json(text.as_bytes(), Defaults::FILTER).expect("a configuration"))
    .collect()
});

fuzz_target!(|bytes: &[u8]| {
    let (host, target) = match bytes.iter().position(|octet| *octet == b'\n') {
        Some(end) => (Some(&bytes[..end]), &bytes[end + 1..]),
        None => (None, bytes),
    };
    for policy in POLICIES.iter() {
        let decision = policy.request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls: false,
            method: b"GET",
            target,
            host,
            headers: &[],
        });
        match decision.action {
            Action::Reply(reply) => {
                if let Some(location) = reply.location {
                    assert!(location.iter().all(u8::is_ascii_graphic));
                    assert!(location.starts_with(b"https://") || !location.starts_with(b"//"));
                }
            }
            Action::Forward(forward) => {
                assert_sendable(&forward.edits);
                let mut message = Message::new(target, &[]);
                message.apply(&forward.edits);
                assert!(message.target.starts_with(b"/") && !message.target.starts_with(b"//"));
                assert!(message.target.iter().all(u8::is_ascii_graphic));
                assert!(!message.target.contains(&b'#'));
                let path = message
                    .target
                    .split(|octet| *octet == b'?')
                    .next()
                    .unwrap_or_default();
                for segment in path.split(|octet| *octet == b'/') {
                    assert!(
                        !matches!(segment, b"." | b".."),
                        "a dot segment is forwarded"
                    );
                }
            }
        }
    }
});
