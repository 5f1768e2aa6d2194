//! Sends random bytes through every hook, and compares what is left with what the policy decides.
//!
//! `cargo xtask test module-memory` runs this with AddressSanitizer, because the stand-in for Envoy frees what it has lent as soon as
//! it is replaced, as Envoy does.

use std::net::{IpAddr, SocketAddr};

use fluxlit_policy::{
    Action, Defaults, Edit, Edits, Header, Peer, Policy, Request, Response, ResponseDecision,
};
use proptest::prelude::*;

use crate::fake_envoy::{Lines, Module, envoy};

const SETTINGS: [&str; 4] = [
    r#"{"root_path": "/m", "hsts": true, "security_headers": true, "peer_filter_state_key": "peer"}"#,
    r#"{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.0/8", "xff_mode": "chain", "prefix_from_header": true,
        "mounts": [{"root_path": "/a"}, {"root_path": "/b", "upstream_path": "full"}], "peer_filter_state_key": "peer"}"#,
    r#"{"root_path": "/m", "outside_mount": "reject", "emit_forwarded": true, "upstream_host": "effective",
        "trust_proxy": true, "forwarded_allow_ips": "10.0.0.0/8", "cookie_path": "confine", "peer_filter_state_key": "peer"}"#,
    r#"{"report_only": true, "root_path": "/m", "hsts": true, "peer_filter_state_key": "peer"}"#,
];

/// What a client and an upstream send.
#[derive(Debug, Clone)]
struct Exchange {
    method: &'static str,
    path: Vec<u8>,
    authority: Option<Vec<u8>>,
    headers: Lines,
    trailers: Lines,
    status: u16,
    response: Lines,
}

fn lines(names: &'static [&'static str]) -> impl Strategy<Value = Lines> {
    let value = prop_oneof![
        Just(b"6.6.6.6, 10.1.1.1".to_vec()),
        Just(b"for=6.6.6.6;proto=https;host=evil.example".to_vec()),
        Just(b"x-real-ip, upgrade".to_vec()),
        Just(b"/m/next".to_vec()),
        Just(b"//evil.example/m".to_vec()),
        Just(b"a=1; Path=/; Secure".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let name = prop::sample::select(names).prop_map(|name| name.as_bytes().to_vec());
    prop::collection::vec((name, value), 0..10)
}

fn exchange() -> impl Strategy<Value = Exchange> {
    const REQUEST: &[&str] = &[
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x_forwarded_for",
        "forwarded",
        "x-real-ip",
        "x-auth-request-user",
        "x-envoy-original-url",
        "x-envoy-original-path",
        "connection",
        "upgrade",
        "cookie",
        "accept",
    ];
    const RESPONSE: &[&str] = &[
        "location",
        "content-location",
        "refresh",
        "set-cookie",
        "strict-transport-security",
        "x-frame-options",
        "content-security-policy",
        "content-type",
    ];
    let path = prop_oneof![
        Just(b"/m/x?y=1".to_vec()),
        Just(b"/m".to_vec()),
        Just(b"/a/b".to_vec()),
        Just(b"http://other.example/m/x".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    let authority = prop_oneof![
        Just(None),
        Just(Some(b"portal.example:8443".to_vec())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Some),
    ];
    (
        prop::sample::select(vec!["GET", "POST", "OPTIONS", "CONNECT"]),
        path,
        authority,
        lines(REQUEST),
        lines(REQUEST),
        prop::sample::select(vec![200, 201, 302, 304, 404]),
        lines(RESPONSE),
    )
        .prop_map(
            |(method, path, authority, headers, trailers, status, response)| Exchange {
                method,
                path,
                authority,
                headers,
                trailers,
                status,
                response,
            },
        )
}

fn borrow(lines: &Lines) -> Vec<Header<'_>> {
    let lines = lines.iter();
    lines.map(|(name, value)| (&**name, &**value)).collect()
}

/// Returns the header map that the module must leave.
fn applied(mut lines: Lines, edits: &Edits) -> Lines {
    for edit in edits.iter() {
        let (name, value) = match edit {
            Edit::Append(name, value) | Edit::Set(name, value) => (name, Some(value)),
            Edit::Host(value) => (":authority", Some(value)),
            Edit::Remove(name) => (name, None),
            Edit::Target(value) => (":path", Some(value)),
        };
        if !matches!(edit, Edit::Append(..)) {
            lines.retain(|(other, _)| other != name.as_bytes());
        }
        lines.extend(value.map(|value| (name.as_bytes().to_vec(), value.to_vec())));
    }
    lines
}

/// Returns true if an edit writes an octet that would end a line or a word of the request line.
fn has_bad_octet(edits: &Edits) -> bool {
    edits.iter().any(|edit| match edit {
        Edit::Append(_, value) | Edit::Set(_, value) => value.iter().any(u8::is_ascii_control),
        Edit::Host(value) | Edit::Target(value) => !value.iter().all(u8::is_ascii_graphic),
        Edit::Remove(_) => false,
    })
}

fn check(module: &Module, policy: &Policy, peer: IpAddr, exchange: &Exchange) {
    let mut head: Lines = vec![
        (b":method".to_vec(), exchange.method.as_bytes().to_vec()),
        (b":path".to_vec(), exchange.path.clone()),
    ];
    let authority = exchange.authority.clone();
    head.extend(authority.map(|host| (b":authority".to_vec(), host)));
    head.extend(exchange.headers.clone());
    let mut response_head: Lines = vec![(
        b":status".to_vec(),
        exchange.status.to_string().into_bytes(),
    )];
    response_head.extend(exchange.response.clone());
    envoy(|envoy| {
        envoy.maps = [
            head.clone(),
            exchange.trailers.clone(),
            response_head.clone(),
        ];
        envoy.filter_state.clear();
        let recorded = SocketAddr::new(peer, 4711).to_string().into_bytes();
        envoy.filter_state.insert(b"peer".to_vec(), recorded);
        envoy.reply = None;
        envoy.log.clear();
    });
    let headers = borrow(&exchange.headers);
    let decision = policy.request(&Request {
        peer: Peer::Ip(peer),
        identity: None,
        is_reentry: false,
        tls: false,
        method: exchange.method.as_bytes(),
        target: &exchange.path,
        host: exchange.authority.as_deref(),
        headers: &headers,
    });
    let stream = module.stream();
    let is_forwarded = stream.request_headers();
    let reply = envoy(|envoy| envoy.reply.take());
    match decision.action {
        Action::Forward(forward) if is_forwarded => {
            assert!(reply.is_none());
            let left = envoy(|envoy| envoy.maps[0].clone());
            assert_eq!(left, applied(head, &forward.edits));
        }
        Action::Forward(forward) => {
            assert_eq!(reply.map(|(status, ..)| status), Some(500));
            assert!(has_bad_octet(&forward.edits), "{:?}", forward.edits);
            return;
        }
        Action::Reply(wanted) => {
            assert!(!is_forwarded);
            let status = reply.map(|(status, ..)| status);
            // A gRPC client gets its status in a field.
            assert!(status == Some(200) || status == Some(wanted.status(|| false).into()));
            return;
        }
    }
    if stream.request_trailers() {
        let left = envoy(|envoy| envoy.maps[1].clone());
        let edits = policy.request_trailers(&borrow(&exchange.trailers));
        assert_eq!(left, applied(exchange.trailers.clone(), &edits));
    }
    let ResponseDecision { edits, .. } = policy.response(
        &decision.exchange,
        &Response {
            status: exchange.status,
            headers: &borrow(&exchange.response),
        },
    );
    if stream.response_headers() {
        let left = envoy(|envoy| envoy.maps[2].clone());
        assert_eq!(left, applied(response_head, &edits));
    } else {
        assert!(has_bad_octet(&edits), "{edits:?}");
    }
    stream.complete();
}

proptest! {
    #[test]
    fn any_bytes_get_what_the_policy_decides(
        exchange in exchange(),
        settings in prop::sample::select(&SETTINGS[..]),
        peer in prop::sample::select(vec!["10.1.1.1", "192.0.2.1", "2001:db8::1"]),
    ) {
        let module = Module::configure(settings).expect("valid");
        let policy = Policy::from_json(settings.as_bytes(), Defaults::FILTER).expect("valid");
        check(&module, &policy, peer.parse().expect("an address"), &exchange);
    }
}
