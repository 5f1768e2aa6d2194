//! Tests what a decision tells its host besides the edits: the record for logs and metrics, and facts for warnings.

use fluxlit_policy::{
    ArrivedPath, Header, HeaderGroup, MountOutcome, Peer, Policy, Reason, Request, Response,
    TrustOutcome, UnparsedRequest,
};

use crate::support::{forward, get, policy, texts};

#[test]
fn a_record_says_how_the_path_arrived_if_both_shapes_are_accepted() {
    for (settings, target, expected) in [
        (r#""auto""#, "/m/x", Some(ArrivedPath::Full)),
        (r#""auto""#, "/x", Some(ArrivedPath::Stripped)),
        (r#""auto""#, "/m", Some(ArrivedPath::Full)),
        (r#""full""#, "/m/x", None),
        (r#""full""#, "/x", None),
        (r#""stripped""#, "/x", None),
    ] {
        let settings = format!(r#"{{"root_path": "/m", "root_path_shape": {settings}}}"#);
        let record = policy(&settings)
            .request(&get("192.0.2.1", target, &[]))
            .record;
        assert_eq!(record.arrived, expected, "{settings} {target}");
    }
    let no_mount = policy(r#"{"root_path_shape": "auto"}"#);
    let record = no_mount.request(&get("192.0.2.1", "/x", &[])).record;
    assert_eq!(record.arrived, None);
}

#[test]
fn a_claim_of_https_is_the_first_element() {
    for (value, expected) in [
        ("https", true),
        ("HTTPS", true),
        ("wss", true),
        ("https, http", true),
        ("http, https", false),
        ("http", false),
        ("", false),
    ] {
        let headers: [Header<'_>; 1] = [(b"X-Forwarded-Proto", value.as_bytes())];
        assert_eq!(fluxlit_policy::claims_https(&headers), expected, "{value}");
    }
    assert!(!fluxlit_policy::claims_https(&[]));
}

#[test]
fn a_record_names_the_mount_and_the_reason_of_a_reply() {
    for (settings, target, mount, reason) in [
        (
            r#"{"root_path": "/m"}"#,
            "/m/x",
            Some(MountOutcome::Hit),
            None,
        ),
        (
            r#"{"root_path": "/m"}"#,
            "/x",
            Some(MountOutcome::Miss),
            None,
        ),
        (
            r#"{"root_path": "/m"}"#,
            "/m",
            Some(MountOutcome::Redirect),
            Some(Reason::BareMount),
        ),
        (
            r#"{"root_path": "/m", "outside_mount": "reject"}"#,
            "/x",
            Some(MountOutcome::Miss),
            Some(Reason::OutsideMount),
        ),
        (
            r#"{"root_path": "/m"}"#,
            "/m/..",
            None,
            Some(Reason::DotSegment),
        ),
        (
            r#"{"mounts": [{"root_path": "/m"}]}"#,
            "/m/x",
            Some(MountOutcome::Hit),
            None,
        ),
        ("{}", "/x", None, None),
        (r#"{"root_path": "/"}"#, "/x", None, None),
        (r#"{"root_path": ""}"#, "/x", None, None),
    ] {
        let record = policy(settings)
            .request(&get("192.0.2.1", target, &[]))
            .record;
        assert_eq!(
            (record.mount, record.reply_reason),
            (mount, reason),
            "{settings} {target}"
        );
    }
}

#[test]
fn a_record_counts_what_is_removed_by_group() {
    let policy = policy("{}");
    let headers: [Header<'_>; 8] = [
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-proto", b"https"),
        (b"x-client-ip", b"1.1.1.1"),
        (b"connection", b"x-hop, close, x-absent"),
        (b"x-hop", b"1"),
        (b"remote-user", b"root"),
        (b"accept", b"*/*"),
    ];
    let record = policy.request(&get("192.0.2.1", "/", &headers)).record;
    let removed: Vec<(HeaderGroup, u32)> = record.removed().collect();
    let count = |wanted| {
        removed
            .iter()
            .find(|(group, _)| *group == wanted)
            .map(|(_, count)| *count)
    };
    // The client's own address is what is sent anyway.
    assert_eq!(count(HeaderGroup::Forwarding), Some(2));
    assert_eq!(count(HeaderGroup::ClientAddress), Some(1));
    assert_eq!(count(HeaderGroup::Nominated), Some(1));
    assert_eq!(count(HeaderGroup::Identity), Some(1));
    assert_eq!(removed.len(), 4, "{removed:?}");
}

#[test]
fn a_record_says_how_the_client_was_found() {
    let policy = policy(r#"{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.0/8"}"#);
    for (peer, list, want) in [
        ("192.0.2.1", "203.0.113.9", TrustOutcome::Untrusted),
        ("unknown", "203.0.113.9", TrustOutcome::PeerUnknown),
        ("10.0.0.1", "203.0.113.9", TrustOutcome::TrustedHeader),
        (
            "10.0.0.1",
            "10.0.0.9",
            TrustOutcome::TrustedHeaderAllTrusted,
        ),
        ("10.0.0.1", "unknown", TrustOutcome::TrustedStopped),
        ("10.0.0.1", " ", TrustOutcome::TrustedPeer),
    ] {
        let headers: [Header<'_>; 1] = [(b"x-forwarded-for", list.as_bytes())];
        let record = policy.request(&get(peer, "/", &headers)).record;
        assert_eq!(record.trust, want, "{peer} {list}");
    }
}

#[test]
fn ignored_forwarded_headers_are_reported_for_untrusted_peers_only() {
    let policy = policy(r#"{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.0/8"}"#);
    for (peer, name, is_reentry, want) in [
        ("192.0.2.1", "x-forwarded-for", false, true),
        ("192.0.2.1", "X-Real-IP", false, true),
        ("192.0.2.1", "forwarded", false, true),
        // Envoy sets it on every request.
        ("192.0.2.1", "x-forwarded-proto", false, false),
        ("10.0.0.1", "x-forwarded-for", false, false),
        ("192.0.2.1", "x-forwarded-for", true, false),
    ] {
        let headers: [Header<'_>; 1] = [(name.as_bytes(), b"203.0.113.9")];
        let decision = policy.request(&Request {
            is_reentry,
            ..get(peer, "/", &headers)
        });
        assert_eq!(
            decision.exchange.forwarded_ignored, want,
            "{peer} {name} {is_reentry}"
        );
    }
}

#[test]
fn a_cookie_with_host_prefix_is_reported_under_a_mount_only() {
    for (settings, cookie, want) in [
        (r#"{"root_path": "/m"}"#, "__Host-a=b; Path=/; Secure", true),
        (
            r#"{"root_path": "/m"}"#,
            "__Secure-a=b; Path=/; Secure",
            false,
        ),
        (
            r#"{"root_path": "/m", "upstream_path": "full"}"#,
            "__Host-a=b; Path=/; Secure",
            false,
        ),
        ("{}", "__Host-a=b; Path=/; Secure", false),
    ] {
        let policy = policy(settings);
        let decision = policy.request(&get("192.0.2.1", "/m/x", &[]));
        let response = policy.response(
            &decision.exchange,
            &Response {
                status: 200,
                headers: &[(b"set-cookie", b"c=d"), (b"set-cookie", cookie.as_bytes())],
            },
        );
        assert_eq!(response.host_cookie_kept, want, "{settings} {cookie}");
    }
}

#[test]
fn urls_of_own_responses_are_not_rewritten() {
    let policy = policy(r#"{"root_path": "/m", "root_path_shape": "auto"}"#);
    let exchange = policy.unparsed_request(&UnparsedRequest {
        peer: Peer::Unknown,
        tls: false,
        host: Some(b"app.example"),
        headers: &[],
    });
    let response = Response {
        status: 400,
        headers: &[(b"location", b"/x"), (b"set-cookie", b"a=b; Path=/")],
    };
    assert!(policy.response(&exchange, &response).edits.is_empty());
}

#[test]
fn an_informational_response_carries_nothing_that_a_client_stores_or_follows() {
    let mut removed = texts(&Policy::informational_edits());
    removed.sort();
    assert_eq!(
        removed,
        [
            "remove content-location",
            "remove link",
            "remove location",
            "remove refresh",
            "remove set-cookie",
            "remove strict-transport-security",
        ]
    );
}

#[test]
fn a_header_that_is_absent_is_appended_and_a_correct_one_is_left() {
    let settings = r#"{"hsts": true, "trust_proxy": true, "forwarded_allow_ips": "10.0.0.1", "client_ip_header": "x-real-ip"}"#;
    let policy = policy(settings);
    let headers: [Header<'_>; 2] = [
        (b"x-real-ip", b"203.0.113.9"),
        (b"x-forwarded-proto", b"https"),
    ];
    let decision = policy.request(&get("10.0.0.1", "/", &headers));
    assert_eq!(
        texts(&forward(&decision).edits),
        [
            "append x-forwarded-for: 203.0.113.9",
            "append x-forwarded-host: app.example",
            "append x-forwarded-port: 443",
        ]
    );
    let response = policy.response(
        &decision.exchange,
        &Response {
            status: 200,
            headers: &[],
        },
    );
    assert_eq!(
        texts(&response.edits),
        ["append strict-transport-security: max-age=31536000"]
    );
}

#[test]
fn the_original_path_has_its_query() {
    let policy = policy(r#"{"root_path": "/m"}"#);
    for (target, want) in [
        ("/m/x?a=b", "append x-envoy-original-path: /m/x?a=b"),
        ("/m/x", "append x-envoy-original-path: /m/x"),
    ] {
        let decision = policy.request(&get("192.0.2.1", target, &[]));
        let edits = texts(&forward(&decision).edits);
        assert!(edits.iter().any(|edit| edit == want), "{target}: {edits:?}");
    }
}
