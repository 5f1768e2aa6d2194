//! Tests who gets a decision record, and what it says.

use fluxlit_policy::{
    ClientSource, DecisionReport, Defaults, Header, Hop, MountOutcome, Nonce, PROBE_FIELD,
    PathForm, Peer, PeerKind, Policy, Probe, ProbeAnswer, ProbeGuard, ProbeKey, ProbeOutcome,
    ReportError, Request, SEAL_FIELD, Scheme, TrustOutcome,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::{get, policy};

const KEY: &str = "0123456789abcdef";
const NOW: u64 = 1_790_000_000;
const NONCE: Nonce = *b"a nonce of 16 oc";

fn key() -> ProbeKey {
    ProbeKey::new(KEY).expect("a key")
}

fn probe(hop: Hop) -> Probe {
    Probe::new(hop, "portal.example.com", NOW, NONCE).expect("a host")
}

/// Adds the key to settings.
fn with_key(settings: &str) -> String {
    let key = format!(r#"{{"probe_key": "{KEY}""#);
    match settings {
        "{}" => format!("{key}}}"),
        _ => settings.replacen('{', &format!("{key}, "), 1),
    }
}

fn seal(answer: &ProbeAnswer) -> &[u8] {
    let seal = answer.fields.iter().find(|(name, _)| *name == SEAL_FIELD);
    seal.map_or(b"", |(_, value)| value.as_bytes())
}

/// Asks a policy for its record of a request, whose headers get the field of the probe.
fn report(settings: &str, request: &Request<'_>) -> DecisionReport {
    let policy = policy(&with_key(settings));
    let probe = probe(Hop::Filter);
    let field = probe.field(&key());
    let headers = [
        request.headers,
        &[(PROBE_FIELD.as_bytes(), field.as_bytes())],
    ]
    .concat();
    let request = Request {
        headers: &headers,
        ..*request
    };
    let found = policy.probe(&request, Hop::Filter).expect("a probe");
    assert_eq!(found.as_ref(), Ok(&probe));
    let answer = policy
        .answer_probe(&request, &probe, ProbeOutcome::Answered)
        .expect("an answer");
    assert_eq!(answer.status, 200);
    DecisionReport::open(&key(), &probe, seal(&answer), answer.body.as_bytes()).expect("a report")
}

#[test]
fn a_report_says_what_was_decided() {
    let settings = r#"{"root_path": "/apps/my-app", "trust_proxy": true,
        "forwarded_allow_ips": "10.0.0.0/8", "trusted_pass_headers": ["x-auth-request-email"]}"#;
    let headers: [Header<'_>; 8] = [
        (b"x-forwarded-for", b"203.0.113.7"),
        (b"X-Forwarded-Proto", b"https"),
        (b"x-forwarded-host", b"portal.example.com"),
        (b"x-real-ip", b"6.6.6.6"),
        (b"X-Original-URL", b"/admin"),
        (b"x-auth-request-email", b"user@example.com"),
        (b"x_auth_request_email", b"forged@example.com"),
        (b"cookie", b"session=secret"),
    ];
    let request = Request {
        peer: Peer::Ip("10.1.2.3".parse().expect("an address")),
        ..get(
            "10.1.2.3",
            "/apps/my-app/__fluxlit/record?x=secret",
            &headers,
        )
    };
    let report = report(settings, &request);
    assert_eq!(report.hop, Hop::Filter);
    assert_eq!(report.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(report.asked_host, "portal.example.com");
    assert!(!report.report_only);
    assert_eq!(report.peer, PeerKind::Ip);
    assert_eq!(report.trust, TrustOutcome::TrustedHeader);
    assert!(!report.forwarded_ignored);
    assert_eq!(report.client, "203.0.113.7".parse().ok());
    assert_eq!(report.client_source, ClientSource::Header);
    assert!(!report.tls);
    assert_eq!(report.scheme, Scheme::Https);
    assert_eq!(report.host.as_deref(), Some("portal.example.com"));
    assert_eq!(report.port, 443);
    let origin = "https://portal.example.com";
    assert_eq!(report.origin.as_deref(), Some(origin));
    assert_eq!(report.mount, "/apps/my-app");
    assert_eq!(report.mount_outcome, Some(MountOutcome::Hit));
    assert_eq!(report.path_shape, PathForm::Full);
    assert_eq!(report.received_path, Some(PathForm::Full));
    assert_eq!(report.upstream_path, PathForm::Stripped);
    assert_eq!(report.reply, None);
    assert_eq!(report.removed, ["x-original-url", "x_auth_request_email"]);
    let set = [
        "x-envoy-original-path",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-real-ip",
    ];
    assert_eq!(report.set, set);
    assert_eq!(report.passed, ["x-auth-request-email"]);
}

#[test]
fn a_report_has_no_value_of_a_field() {
    const SECRETS: [&str; 6] = [
        "v-cookie",
        "v-authorization",
        "v-user",
        "v-forged",
        "v-query",
        KEY,
    ];
    let headers: [Header<'_>; 5] = [
        (b"cookie", b"v-cookie"),
        (b"authorization", b"Bearer v-authorization"),
        (b"x-auth-request-user", b"v-user"),
        (b"x-forwarded-for", b"v-forged"),
        (b"x-forwarded-prefix", b"/v-forged"),
    ];
    let request = get("192.0.2.1", "/__fluxlit/record?v-query", &headers);
    let text = serde_json::to_string(&report("{}", &request)).expect("JSON");
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[test]
fn the_facts_of_a_report_depend_on_peer_path_and_settings() {
    let mounted = r#"{"root_path": "/m"}"#;
    let auto = r#"{"root_path": "/m", "root_path_shape": "auto"}"#;
    let list = r#"{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.0/8"}"#;
    let reject = r#"{"root_path": "/m", "outside_mount": "reject"}"#;
    let hosts = r#"{"allowed_hosts": ["other.example"]}"#;
    let https = r#"{"redirect_to_https": true}"#;
    for (settings, peer, target, member, want) in [
        (
            "{}",
            "192.0.2.1",
            "/__fluxlit/record",
            "trust",
            r#""untrusted""#,
        ),
        (
            "{}",
            "192.0.2.1",
            "/__fluxlit/record",
            "client",
            r#""192.0.2.1""#,
        ),
        (
            "{}",
            "unknown",
            "/__fluxlit/record",
            "trust",
            r#""peer_unknown""#,
        ),
        ("{}", "unknown", "/__fluxlit/record", "peer", r#""unknown""#),
        ("{}", "unknown", "/__fluxlit/record", "client", "null"),
        (
            list,
            "10.0.0.1",
            "/__fluxlit/record",
            "trust",
            r#""trusted_peer""#,
        ),
        (
            list,
            "10.0.0.1",
            "/__fluxlit/record",
            "client_source",
            r#""peer""#,
        ),
        (
            "{}",
            "192.0.2.1",
            "/a/b/__fluxlit/record",
            "mount_outcome",
            "null",
        ),
        (
            "{}",
            "192.0.2.1",
            "/a/b/__fluxlit/record",
            "received_path",
            "null",
        ),
        (
            mounted,
            "192.0.2.1",
            "/m/__fluxlit/record",
            "received_path",
            r#""full""#,
        ),
        (
            mounted,
            "192.0.2.1",
            "/__fluxlit/record",
            "mount_outcome",
            r#""miss""#,
        ),
        (
            mounted,
            "192.0.2.1",
            "/__fluxlit/record",
            "received_path",
            "null",
        ),
        (
            auto,
            "192.0.2.1",
            "/__fluxlit/record",
            "received_path",
            r#""stripped""#,
        ),
        (
            auto,
            "192.0.2.1",
            "/__fluxlit/record",
            "path_shape",
            r#""auto""#,
        ),
        (
            reject,
            "192.0.2.1",
            "/x/__fluxlit/record",
            "reply",
            r#""outside_mount""#,
        ),
        (reject, "192.0.2.1", "/x/__fluxlit/record", "set", "[]"),
        (
            hosts,
            "192.0.2.1",
            "/__fluxlit/record",
            "reply",
            r#""host_not_allowed""#,
        ),
        (
            https,
            "192.0.2.1",
            "/__fluxlit/record",
            "reply",
            r#""plain_http""#,
        ),
        (
            "{}",
            "192.0.2.1",
            "http://u.example/__fluxlit/record",
            "host",
            r#""u.example""#,
        ),
    ] {
        let report = report(settings, &get(peer, target, &[]));
        let report = serde_json::to_value(report).expect("JSON");
        let want: Value = serde_json::from_str(want).expect("JSON");
        assert_eq!(report[member], want, "{settings} {peer} {target} {member}");
    }
}

/// In a first roll-out, the operator wants to see what would be done.
#[test]
fn a_report_says_what_report_only_withholds() {
    let headers: [Header<'_>; 1] = [(b"x-original-url", b"/admin")];
    let request = get("192.0.2.1", "/__fluxlit/record", &headers);
    let report = report(r#"{"report_only": true}"#, &request);
    assert!(report.report_only);
    assert_eq!(report.removed, ["x-original-url"]);
    assert!(report.set.contains(&"x-forwarded-for".to_owned()));
}

#[test]
fn a_field_that_is_correct_already_counts_as_set() {
    let headers: [Header<'_>; 2] = [
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-proto", b"http"),
    ];
    let report = report("{}", &get("192.0.2.1", "/__fluxlit/record", &headers));
    for name in ["x-forwarded-for", "x-forwarded-proto"] {
        assert!(report.set.contains(&name.to_owned()), "{name}");
    }
    assert_eq!(report.passed, [""; 0]);
}

#[test]
fn a_removed_field_is_named_in_lower_case_whatever_its_spelling() {
    let headers: [Header<'_>; 2] = [
        (b"X-Forwarded-User", b"eve"),
        (b"X_FORWARDED_FOR", b"203.0.113.1"),
    ];
    let report = report("{}", &get("192.0.2.1", "/__fluxlit/record", &headers));
    assert_eq!(report.removed, ["x-forwarded-user", "x_forwarded_for"]);
    assert_eq!(report.passed, [""; 0]);
}

#[test]
fn other_requests_are_no_probes() {
    let valid = probe(Hop::Filter).field(&key());
    let other_hop = probe(Hop::Gateway).field(&key());
    let other_key = probe(Hop::Filter).field(&ProbeKey::new("another key of 16").expect("a key"));
    let later = valid.replace("time=179", "time=180");
    let other_nonce = valid.replace("nonce=61", "nonce=62");
    let other_host = valid.replace("host=portal", "host=porta1");
    let relabelled = other_hop.replace("hop=gateway", "hop=filter");
    let short: String = valid.chars().take(valid.len().saturating_sub(2)).collect();
    let short = short.as_str();
    let spaced = format!(" {valid}");
    let none: Option<ProbeOutcome> = None;
    let invalid = Some(ProbeOutcome::Invalid);
    let path = "/__fluxlit/record";
    let upper = valid.to_uppercase();
    for (what, method, target, values, want) in [
        ("another method", "POST", path, &[valid.as_str()][..], none),
        (
            "HEAD, whose answer has no body",
            "HEAD",
            path,
            &[&valid],
            none,
        ),
        ("another path", "GET", "/", &[&valid], none),
        (
            "a path below",
            "GET",
            "/__fluxlit/record/x",
            &[&valid],
            none,
        ),
        ("another end", "GET", "/x__fluxlit/record", &[&valid], none),
        (
            "the path in the query",
            "GET",
            "/x?/__fluxlit/record",
            &[&valid],
            none,
        ),
        (
            "dot segments",
            "GET",
            "/a/../__fluxlit/record",
            &[&valid],
            none,
        ),
        ("no field", "GET", path, &[], none),
        ("another hop", "GET", path, &[&other_hop], none),
        ("two lines", "GET", path, &[&valid, &valid], invalid),
        ("an empty line", "GET", path, &[""], invalid),
        ("another key", "GET", path, &[&other_key], invalid),
        ("another time", "GET", path, &[&later], invalid),
        ("another nonce", "GET", path, &[&other_nonce], invalid),
        ("another host", "GET", path, &[&other_host], invalid),
        ("another hop's MAC", "GET", path, &[&relabelled], invalid),
        ("a short MAC", "GET", path, &[short], invalid),
        ("white space", "GET", path, &[&spaced], invalid),
        ("upper case", "GET", path, &[&upper], invalid),
    ] {
        let headers: Vec<Header<'_>> = values
            .iter()
            .map(|value| (PROBE_FIELD.as_bytes(), value.as_bytes()))
            .collect();
        let request = Request {
            method: method.as_bytes(),
            ..get("192.0.2.1", target, &headers)
        };
        let found = policy(&with_key("{}")).probe(&request, Hop::Filter);
        let found = found.map(|found| found.expect_err(what));
        assert_eq!(found, want, "{what}");
    }
    // A WebSocket handshake, and a policy without a key.
    let field: Header<'_> = (PROBE_FIELD.as_bytes(), valid.as_bytes());
    let upgrade = [field, (b"Upgrade", b"websocket")];
    let upgrade = get("192.0.2.1", path, &upgrade);
    let with = policy(&with_key("{}"));
    assert_eq!(with.probe(&upgrade, Hop::Filter), None);
    let headers = [field];
    let plain = get("192.0.2.1", path, &headers);
    assert!(with.probe(&plain, Hop::Filter).is_some_and(|it| it.is_ok()));
    assert_eq!(policy("{}").probe(&plain, Hop::Filter), None);
}

#[test]
fn only_an_answered_and_a_limited_request_get_an_answer() {
    let policy = policy(&with_key("{}"));
    let (key, probe) = (key(), probe(Hop::Filter));
    let request = get("192.0.2.1", "/__fluxlit/record", &[]);
    for outcome in ProbeOutcome::ALL {
        let answer = policy.answer_probe(&request, &probe, *outcome);
        let status = answer.as_ref().map(|answer| answer.status);
        let want = match outcome {
            ProbeOutcome::Answered => Some(200),
            ProbeOutcome::Limited => Some(429),
            _ => None,
        };
        assert_eq!(status, want, "{}", outcome.label());
        let Some(answer) = answer else { continue };
        let body = answer.body.as_bytes();
        assert!(key.is_seal(seal(&answer), probe.nonce(), body));
        let no_store = ("cache-control", "no-store".to_owned());
        assert!(answer.fields.contains(&no_store));
        let retry_after = answer.fields.iter().any(|(name, _)| *name == "retry-after");
        assert_eq!(retry_after, answer.status == 429);
    }
}

#[test]
fn only_a_policy_with_a_key_answers_probes() {
    assert!(policy(&with_key("{}")).answers_probes());
    assert!(!policy("{}").answers_probes());
}

#[test]
fn a_report_is_opened_only_with_its_key_and_for_its_probe() {
    let policy = policy(&with_key("{}"));
    let probe = probe(Hop::Filter);
    let request = get("192.0.2.1", "/__fluxlit/record", &[]);
    let answer = policy.answer_probe(&request, &probe, ProbeOutcome::Answered);
    let answer = answer.expect("an answer");
    let body = answer.body.as_bytes();
    let other_key = ProbeKey::new("another key of 16").expect("a key");
    let other_probe = Probe::new(Hop::Filter, "portal.example.com", NOW, [7; 16]).expect("a host");
    let other_hop = self::probe(Hop::Gateway);
    let changed = answer.body.replace("untrusted", "trusted_peer");
    let open = |key: &ProbeKey, probe: &Probe, seal: &[u8], body: &[u8]| {
        DecisionReport::open(key, probe, seal, body)
    };
    let seal = seal(&answer);
    assert!(open(&key(), &probe, seal, body).is_ok());
    for (what, result) in [
        ("another key", open(&other_key, &probe, seal, body)),
        ("another probe", open(&key(), &other_probe, seal, body)),
        (
            "a changed body",
            open(&key(), &probe, seal, changed.as_bytes()),
        ),
        ("no seal", open(&key(), &probe, b"", body)),
    ] {
        assert!(matches!(result, Err(ReportError::Seal)), "{what}");
    }
    let result = open(&key(), &other_hop, seal, body);
    assert!(matches!(result, Err(ReportError::OtherRequest)));
}

#[test]
fn a_key_has_at_least_16_bytes_and_is_not_shown() {
    for (text, is_accepted) in [
        ("", false),
        ("0123456789abcde", false),
        ("  0123456789abcde \n", false),
        ("0123456789abcdef", true),
        (" 0123456789abcdef\n", true),
        ("\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}", true),
    ] {
        assert_eq!(ProbeKey::new(text).is_ok(), is_accepted, "{text:?}");
    }
    let policy = policy(&with_key("{}"));
    assert!(!format!("{policy:?} {:?}", key()).contains("0123"));
    for value in [
        r#""s3cr3t""#,
        "5318008531800853180085318008",
        r#"["s3cr3t"]"#,
    ] {
        let settings = format!(r#"{{"probe_key": {value}}}"#);
        let errors = Policy::from_json(settings.as_bytes(), Defaults::FILTER);
        let text = errors.expect_err(value).to_string();
        assert!(!text.contains("s3cr3t") && !text.contains("5318"), "{text}");
        assert!(text.contains("probe_key"), "{text}");
    }
    let outside = Policy::from_json(br#"[{"probe_key": "s3cr3t"}]"#, Defaults::FILTER);
    let text = outside.expect_err("no object").to_string();
    assert!(!text.contains("s3cr3t"), "{text}");
}

#[test]
fn the_hash_names_the_settings_but_not_the_key() {
    let hash = |settings: &str| policy(settings).config_hash().to_owned();
    let one = hash(r#"{"root_path": "/m", "hsts": {"max_age": 1, "mode": "gateway"}}"#);
    assert_eq!(one.len(), 32);
    for same in [
        r#"{"hsts": {"mode": "gateway", "max_age": 1}, "root_path": "/m"}"#,
        r#"{"root_path": "/m", "hsts": {"max_age": 1, "mode": "gateway"}, "report_only": null}"#,
        r#"{"root_path": "/m", "hsts": {"max_age": 1, "mode": "gateway"}, "probe_key": "0123456789abcdef"}"#,
    ] {
        assert_eq!(hash(same), one, "{same}");
    }
    for other in [
        r#"{"root_path": "/m"}"#,
        r#"{"root_path": "/n", "hsts": {"max_age": 1, "mode": "gateway"}}"#,
        r#"{"root_path": "/m", "hsts": {"max_age": 11, "mode": "gateway"}}"#,
        "{}",
    ] {
        assert_ne!(hash(other), one, "{other}");
    }
}

#[test]
fn a_key_is_not_shown() {
    assert_eq!(format!("{:?}", key()), "ProbeKey([REDACTED])");
}

fn admit(guard: &mut ProbeGuard, time: u64, number: u32, now: u64) -> ProbeOutcome {
    let mut nonce = [0; 16];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    let probe = Probe::new(Hop::Filter, "a", time, nonce).expect("a host");
    // The filter stores the guard between two requests.
    *guard = ProbeGuard::from_bytes(&guard.to_bytes(), now);
    guard.admit(&probe, now)
}

#[test]
fn a_request_is_answered_once_and_while_it_is_new() {
    use ProbeOutcome::{Answered, Expired, Replayed};
    let mut guard = ProbeGuard::new(NOW - 500);
    for (time, number, now, want) in [
        (NOW, 1, NOW, Answered),
        (NOW, 1, NOW, Replayed),
        (NOW, 1, NOW + 60, Replayed),
        (NOW, 2, NOW + 60, Answered),
        (NOW, 1, NOW + 61, Expired),
        (NOW + 120, 3, NOW + 60, Answered),
        (NOW + 121, 4, NOW + 60, Expired),
        (NOW + 120, 3, NOW + 180, Replayed),
        (NOW + 120, 3, NOW + 181, Expired),
        // The clock goes back.
        (NOW, 1, NOW, Expired),
        (NOW + 120, 3, NOW + 120, Expired),
        (0, 5, NOW + 181, Expired),
        (u64::MAX, 6, NOW + 181, Expired),
    ] {
        let got = admit(&mut guard, time, number, now);
        assert_eq!(got, want, "{} {number} {}", time.abs_diff(NOW), now - NOW);
    }
}

/// A process that starts does not know what was answered before.
#[test]
fn requests_from_before_the_start_are_refused() {
    let mut guard = ProbeGuard::new(NOW);
    assert_eq!(admit(&mut guard, NOW - 1, 1, NOW), ProbeOutcome::Expired);
    assert_eq!(admit(&mut guard, NOW, 2, NOW), ProbeOutcome::Answered);
}

#[test]
fn requests_are_answered_in_bursts_and_then_one_a_second() {
    let mut guard = ProbeGuard::new(NOW);
    let mut number = 0;
    let mut count = |guard: &mut ProbeGuard, now| {
        let mut answered = 0;
        for _ in 0..30 {
            number += 1;
            let outcome = admit(guard, now, number, now);
            assert!(matches!(
                outcome,
                ProbeOutcome::Answered | ProbeOutcome::Limited
            ));
            answered += u32::from(outcome == ProbeOutcome::Answered);
        }
        answered
    };
    assert_eq!(count(&mut guard, NOW), ProbeGuard::BURST);
    assert_eq!(count(&mut guard, NOW), 0);
    assert_eq!(count(&mut guard, NOW + 1), 1);
    assert_eq!(count(&mut guard, NOW + 4), 3);
    assert_eq!(count(&mut guard, NOW + 90), ProbeGuard::BURST);
}

/// Otherwise whoever has seen a request that got 429 could send it again.
#[test]
fn a_request_that_was_limited_is_not_answered_later() {
    let mut guard = ProbeGuard::new(NOW);
    for number in 0..ProbeGuard::BURST {
        assert_eq!(admit(&mut guard, NOW, number, NOW), ProbeOutcome::Answered);
    }
    assert_eq!(admit(&mut guard, NOW, 100, NOW), ProbeOutcome::Limited);
    assert_eq!(admit(&mut guard, NOW, 100, NOW + 5), ProbeOutcome::Replayed);
}

#[test]
fn the_memory_of_a_guard_is_bounded() {
    let mut guard = ProbeGuard::new(NOW);
    let mut answered = 0;
    for number in 0..2_000 {
        let now = NOW + u64::from(number / 100);
        let outcome = admit(&mut guard, now, number, now);
        answered += usize::from(outcome == ProbeOutcome::Answered);
        let size = guard.to_bytes().len();
        assert!(size <= 21 + 24 * ProbeGuard::MAX_NONCES, "{size}");
    }
    assert!(answered >= 20, "{answered}");
}

#[test]
fn a_guard_is_read_with_as_many_nonces_as_it_can_have() {
    let mut full = ProbeGuard::new(NOW);
    for number in 0..=u32::try_from(ProbeGuard::MAX_NONCES).expect("a number") {
        admit(&mut full, NOW, number, NOW);
    }
    let bytes = full.to_bytes();
    assert_eq!(bytes.len(), 21 + 24 * ProbeGuard::MAX_NONCES);
    assert_eq!(ProbeGuard::from_bytes(&bytes, NOW), full);
    let too_many = [bytes.as_slice(), &[0; 24]].concat();
    let mut guard = ProbeGuard::from_bytes(&too_many, NOW);
    assert_eq!(admit(&mut guard, NOW, 9999, NOW), ProbeOutcome::Expired);
}

/// The nonces are lost, so every request that may have been answered before is refused.
#[test]
fn a_guard_that_cannot_be_read_refuses_what_it_may_have_seen() {
    let mut whole = ProbeGuard::new(NOW - 100);
    assert_eq!(admit(&mut whole, NOW, 1, NOW), ProbeOutcome::Answered);
    let bytes = whole.to_bytes();
    let longer = [bytes.as_slice(), b"x"].concat();
    let other = [&[9], &bytes[1..]].concat();
    for bytes in [&b""[..], &bytes[..20], &longer, &other] {
        let mut guard = ProbeGuard::from_bytes(bytes, NOW);
        for (time, now, want) in [
            (NOW, NOW, ProbeOutcome::Expired),
            (NOW + 60, NOW, ProbeOutcome::Expired),
            (NOW + 61, NOW + 61, ProbeOutcome::Answered),
        ] {
            assert_eq!(admit(&mut guard, time, 1, now), want);
        }
    }
}

proptest! {
    #[test]
    fn no_value_without_the_key_is_accepted(value: Vec<u8>, index: prop::sample::Index, bit in 0..8_u8) {
        let policy = policy(&with_key("{}"));
        let is_accepted = |value: &[u8]| {
            let headers: [Header<'_>; 1] = [(PROBE_FIELD.as_bytes(), value)];
            let request = get("192.0.2.1", "/__fluxlit/record", &headers);
            policy.probe(&request, Hop::Filter).is_some_and(|found| found.is_ok())
        };
        prop_assert!(!is_accepted(&value));
        let mut changed = probe(Hop::Filter).field(&key()).into_bytes();
        prop_assert!(is_accepted(&changed));
        let at = index.index(changed.len());
        changed[at] ^= 1 << bit;
        // The digits of the MAC may be in either case.
        let is_case = changed[at].is_ascii_alphabetic() && bit == 5 && at > changed.len().saturating_sub(65);
        prop_assert_eq!(is_accepted(&changed), is_case);
    }

    #[test]
    fn a_probe_is_read_as_it_was_made(time: u64, nonce: [u8; 16], host in "[a-zA-Z0-9._-]{1,200}(:[1-9][0-9]{0,3})?") {
        let policy = policy(&with_key("{}"));
        for hop in Hop::ALL {
            let probe = Probe::new(*hop, &host, time, nonce).expect("a host");
            let field = probe.field(&key());
            let headers: [Header<'_>; 1] = [(PROBE_FIELD.as_bytes(), field.as_bytes())];
            let request = get("192.0.2.1", "/__fluxlit/record", &headers);
            prop_assert_eq!(policy.probe(&request, *hop), Some(Ok(probe)));
        }
    }

    #[test]
    fn any_bytes_give_a_guard_that_answers_nothing_twice(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        now in 0..u64::MAX - 1000,
        times in prop::collection::vec((0..200_u64, 0..8_u32), 1..40),
    ) {
        let mut guard = ProbeGuard::from_bytes(&bytes, now);
        let mut answered = Vec::new();
        for (offset, number) in times {
            let at = now.saturating_add(offset);
            if admit(&mut guard, at, number, at) == ProbeOutcome::Answered {
                prop_assert!(!answered.contains(&(at, number)));
                answered.push((at, number));
            }
        }
    }
}
