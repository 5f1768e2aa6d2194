//! Tests properties that hold for every input.

use fluxlit_policy::{Action, Defaults, Edit, Edits, Header, Peer, Policy, Request, Response};
use proptest::prelude::*;

use crate::browser;

type Line = (Vec<u8>, Vec<u8>);

fn policy(config: &str) -> Policy {
    Policy::from_json(config.as_bytes(), Defaults::FILTER).expect("a valid configuration")
}

fn edge() -> Policy {
    policy(
        r#"{"root_path": "/apps/my-app", "hsts": true, "upstream_authorities": ["127.0.0.1:8501"]}"#,
    )
}

fn borrow(lines: &[Line]) -> Vec<Header<'_>> {
    lines
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
        .collect()
}

fn apply(lines: &mut Vec<Line>, target: &mut Vec<u8>, edits: &Edits) {
    for edit in edits.iter() {
        match edit {
            Edit::Append(name, value) => lines.push((name.as_bytes().to_vec(), value.to_vec())),
            Edit::Host(_) => {}
            Edit::Remove(name) | Edit::Set(name, _) => {
                lines.retain(|(other, _)| !other.eq_ignore_ascii_case(name.as_bytes()));
                if let Edit::Set(name, value) = edit {
                    lines.push((name.as_bytes().to_vec(), value.to_vec()));
                }
            }
            Edit::Target(new) => *target = new.to_vec(),
        }
    }
}

/// Generates protected header names in different spellings, and some names that are not protected.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "x-forwarded-for",
        "X-Forwarded-Proto",
        "x_forwarded_host",
        "X-FORWARDED-PORT",
        "X-Forwarded_Prefix",
        "Forwarded",
        "X-Real-IP",
        "x_real_ip",
        "True-Client-IP",
        "Remote_User",
        "X-Auth-Request-User",
        "X-Original-URL",
        "Front-End-Https",
        "Content_Length",
        "transfer_Encoding",
        "Proxy",
        "X-Forwarded-New",
        "Connection",
        "Upgrade",
        "Cookie",
        "Accept",
    ]);
    known.prop_map(|name| name.as_bytes().to_vec())
}

/// Generates values that the policy never writes itself: if one reaches the upstream, it was forwarded.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"6.6.6.6".to_vec()),
        Just(b"for=6.6.6.6;proto=https;host=evil.example".to_vec()),
        Just(b"X-Forwarded-For, X-Forwarded-Proto, X-Real-IP".to_vec()),
        Just(b"evil.example".to_vec()),
        prop::collection::vec(
            any::<u8>().prop_filter("a field value", |octet| !b"\r\n\0".contains(octet)),
            0..40
        ),
    ]
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    prop::collection::vec((name(), value()), 0..12)
}

/// Generates references from the parts that parsers read differently.
fn url() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "/",
        "/",
        "//",
        "\\",
        "\t",
        " ",
        "m",
        "/m",
        "/m/",
        "/%6D/",
        "/p",
        "/a/b",
        "x",
        "..",
        "?",
        "#",
        "@",
        ":",
        ":80",
        ":443",
        "http:",
        "https:",
        "HTTP://",
        "ht\ttps://",
        "evil.example",
        "//evil.example",
        "app.internal",
        "portal.example",
        "pub.example",
        "'",
        "\"",
    ]);
    // Most faults are in what is left once a mount or the upstream's own authority is removed.
    let prefix = prop::sample::select(vec!["", "/m", "/m/", "/%6D/", "//app.internal/"]);
    (prefix, prop::collection::vec(part, 0..8))
        .prop_map(|(prefix, parts)| prefix.to_owned() + &parts.concat())
}

/// Settings that write URLs in different ways.
const URL_SETTINGS: [&str; 8] = [
    r#"{"root_path": "/"}"#,
    r#"{"root_path": "/m"}"#,
    r#"{"root_path": "/m", "upstream_path": "full"}"#,
    r#"{"root_path": "/m", "public_base_url": "https://pub.example"}"#,
    r#"{"root_path": "/m", "public_base_url": "https://pub.example", "upstream_path": "full"}"#,
    r#"{"root_path": "/m", "public_base_url": "https://pub.example/p"}"#,
    r#"{"root_path": "/m", "public_base_url": "https://pub.example/m/x", "upstream_path": "full"}"#,
    r#"{"public_base_url": "https://pub.example/p"}"#,
];

const SET_HEADERS: [&str; 6] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-real-ip",
];

fn is_free(name: &[u8]) -> bool {
    ["cookie", "accept", "connection", "upgrade"]
        .iter()
        .any(|free| name.eq_ignore_ascii_case(free.as_bytes()))
}

proptest! {
    /// Whatever an untrusted peer sends, the upstream receives each protected header once, with the policy's value.
    #[test]
    fn no_forged_header_reaches_the_upstream(mut lines in lines()) {
        let policy = edge();
        let mut target = b"/apps/my-app/x".to_vec();
        let decision = policy.request(&Request {
            peer: Peer::Ip("203.0.113.9".parse().expect("an address")),
            identity: None,
            is_reentry: false,
            tls: false,
            method: b"GET",
            target: &target.clone(),
            host: Some(b"portal.example"),
            headers: &borrow(&lines),
        });
        let Action::Forward(forward) = decision.action else {
            return Err(TestCaseError::fail("a request for the app is not forwarded"));
        };
        apply(&mut lines, &mut target, &forward.edits);
        let expected = ["203.0.113.9", "portal.example", "80", "/apps/my-app", "http", "203.0.113.9"];
        for (name, want) in SET_HEADERS.iter().zip(expected) {
            let got: Vec<_> = lines
                .iter()
                .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
                .map(|(_, value)| value.as_slice())
                .collect();
            prop_assert_eq!(got, vec![want.as_bytes()], "{}", name);
        }
        for (name, _) in &lines {
            let is_ours = name == b"x-envoy-original-path"
                || SET_HEADERS.iter().any(|ours| ours.as_bytes() == name.as_slice());
            prop_assert!(is_ours || is_free(name), "{:?} reached the upstream", String::from_utf8_lossy(name));
        }
    }

    /// Processing a request that was already edited produces no further edits.
    #[test]
    fn header_edits_are_idempotent(mut lines in lines()) {
        let policy = policy("{}");
        let mut target = b"/x".to_vec();
        for pass in 0..2 {
            let decision = policy.request(&Request {
                peer: Peer::Ip("203.0.113.9".parse().expect("an address")),
                identity: None,
                is_reentry: false,
                tls: true,
                method: b"GET",
                target: &target.clone(),
                host: Some(b"portal.example"),
                headers: &borrow(&lines),
            });
            let Action::Forward(forward) = decision.action else {
                return Err(TestCaseError::fail("a request without a mount is not forwarded"));
            };
            if pass == 1 {
                prop_assert!(forward.edits.is_empty(), "{:?}", forward.edits);
            }
            // A proxy removes the hop-by-hop fields.
            apply(&mut lines, &mut target, &forward.edits);
            lines.retain(|(name, _)| !name.eq_ignore_ascii_case(b"connection"));
        }
    }

    /// Any bytes as target, host, method and headers lead to a decision.
    #[test]
    fn every_request_has_a_decision(
        target in prop::collection::vec(any::<u8>(), 0..80),
        host in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        method in prop::collection::vec(any::<u8>(), 0..10),
        lines in lines(),
        trusted in any::<bool>(),
        source in prop::sample::select(vec!["x-forwarded", "forwarded"]),
    ) {
        let policy = policy(&format!(
            r#"{{"root_path": "/a", "trust_proxy": {trusted}, "forwarded_allow_ips": "10.0.0.0/8", "forwarded_source": "{source}"}}"#
        ));
        let decision = policy.request(&Request {
            peer: Peer::Ip("10.0.0.1".parse().expect("an address")),
            identity: None,
            is_reentry: false,
            tls: false,
            method: &method,
            target: &target,
            host: host.as_deref(),
            headers: &borrow(&lines),
        });
        if let Action::Forward(forward) = decision.action {
            for edit in forward.edits.iter() {
                let written = match edit {
                    Edit::Append(_, value) | Edit::Set(_, value) => value,
                    Edit::Host(value) | Edit::Target(value) => value,
                    Edit::Remove(_) => continue,
                };
                prop_assert!(written.iter().all(u8::is_ascii_graphic), "{:?}", edit);
                if let Edit::Append(name, _) = edit {
                    let is_absent = lines.iter().all(|(other, _)| !other.eq_ignore_ascii_case(name.as_bytes()));
                    prop_assert!(is_absent, "{name} would have two lines");
                }
            }
            prop_assert!(forward.stripped_target().starts_with(b"/"));
            prop_assert!(!forward.stripped_target().starts_with(b"//"));
        }
    }

    /// Stripping the mount from a path to which it was prepended returns the path.
    #[test]
    fn strip_undoes_prepend(rest in "(/[a-z0-9%.~-]{1,8}){0,4}/?") {
        let full = policy(r#"{"root_path": "/m/n", "upstream_path": "full", "root_path_shape": "stripped"}"#);
        let strip = policy(r#"{"root_path": "/m/n", "redirect_bare_mount": false}"#);
        let forward = |policy: &Policy, target: &[u8]| {
            let decision = policy.request(&Request {
                peer: Peer::Unknown,
                identity: None,
                is_reentry: false,
                tls: false,
                method: b"GET",
                target,
                host: None,
                headers: &[],
            });
            match decision.action {
                Action::Forward(forward) => {
                    let mut sent = target.to_vec();
                    apply(&mut Vec::new(), &mut sent, &forward.edits);
                    Some(sent)
                }
                Action::Reply(_) => None,
            }
        };
        let target = format!("/{}", rest.trim_start_matches('/'));
        if let Some(public) = forward(&full, target.as_bytes()) {
            prop_assert_eq!(forward(&strip, &public), Some(target.into_bytes()));
        }
    }

    /// Processing a response that was already edited produces no further edits, whatever the upstream sent.
    #[test]
    fn response_edits_are_idempotent(
        lines in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "location", "set-cookie", "refresh", "strict-transport-security", "content-location", "link",
                    "access-control-allow-origin", "timing-allow-origin", "sourcemap", "service-worker-allowed",
                ]),
                prop_oneof![
                    prop::collection::vec(any::<u8>().prop_filter("a field value", |octet| !b"\r\n\0".contains(octet)), 0..40),
                    "(/|//|///)?(127.0.0.1:8501|portal.example|evil.example)?(/apps/my-app)?(/x)?".prop_map(String::into_bytes),
                    "https?://(127.0.0.1:8501|portal.example|evil.example)(:443)?(/apps/my-app)?(/x)?".prop_map(String::into_bytes),
                    "a=b; ?(Path|path) ?= ?(/|/x|/apps/my-app)?(; Domain=(localhost|x.example))?".prop_map(String::into_bytes),
                    "[0-9]; ?url=['\"]?/x['\"]?".prop_map(String::into_bytes),
                    "( ?<(/|//|http://127.0.0.1:8501)?x?>; ?(rel|anchor)=\"?[/x,]{0,3}\"?,?| ?[<>,;\"x]){1,4}"
                        .prop_map(String::into_bytes),
                ],
            ),
            0..6,
        ),
        status in 200_u16..600,
    ) {
        let policy = edge();
        let decision = policy.request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls: true,
            method: b"GET",
            target: b"/apps/my-app/x",
            host: Some(b"portal.example"),
            headers: &[],
        });
        let mut lines: Vec<Line> = lines
            .into_iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value))
            .collect();
        let mut target = Vec::new();
        let first = policy.response(&decision.exchange, &Response { status, headers: &borrow(&lines) }).edits;
        apply(&mut lines, &mut target, &first);
        let second = policy.response(&decision.exchange, &Response { status, headers: &borrow(&lines) }).edits;
        prop_assert!(second.is_empty(), "first {:?}, second {:?}", first, second);
    }

    /// Whatever the upstream sends, a browser stays at the public origin, unless the upstream itself named another one; such
    /// a URL is sent as it came.
    #[test]
    fn no_url_leaves_the_public_origin(
        settings in prop::sample::select(URL_SETTINGS.to_vec()),
        tls in any::<bool>(),
        field in prop::sample::select(vec![
            "location", "content-location", "refresh", "link", "sourcemap", "x-sourcemap", "service-worker-allowed",
        ]),
        delay in prop::sample::select(vec!["0;url=", "0; ", "0 URL = '", "1,url=\"", "0 "]),
        url in url(),
    ) {
        let policy = policy(&settings.replace('}', r#", "upstream_authorities": ["app.internal"]}"#));
        let decision = policy.request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls,
            method: b"GET",
            target: b"/m/x",
            host: Some(b"portal.example"),
            headers: &[],
        });
        let value = match field {
            "refresh" => format!("{delay}{url}"),
            "link" => format!("<{url}>; rel=next"),
            _ => url,
        };
        let mut lines = vec![(field.as_bytes().to_vec(), value.clone().into_bytes())];
        let headers = borrow(&lines);
        let edits = policy.response(&decision.exchange, &Response { status: 302, headers: &headers }).edits;
        apply(&mut lines, &mut Vec::new(), &edits);
        let origin_of = |value: &str| match (field, tls) {
            ("refresh", tls) => browser::refresh_url(value).map(|url| browser::origin(tls, url)),
            ("link", tls) => {
                let target = value.trim_start_matches('<').split('>').next().unwrap_or_default();
                Some(browser::origin(tls, target))
            }
            (_, tls) => Some(browser::origin(tls, value)),
        };
        let public = [browser::origin(tls, "/"), browser::origin(tls, "https://pub.example/")];
        for (_, line) in lines {
            let sent = String::from_utf8(line).expect("text");
            let is_unchanged = sent == value;
            let stays = origin_of(&sent).is_none_or(|origin| public.contains(&origin));
            prop_assert!(stays || is_unchanged, "{} became {}", value, sent);
        }
    }

    /// No field of origins names the upstream, and an origin that is another's stays.
    #[test]
    fn no_origin_of_the_upstream_leaves(
        settings in prop::sample::select(URL_SETTINGS.to_vec()),
        tls in any::<bool>(),
        field in prop::sample::select(vec!["access-control-allow-origin", "timing-allow-origin"]),
        origins in prop::collection::vec(
            prop_oneof![
                "(http|HTTPS)://(app\\.internal|APP\\.internal:|portal\\.example)(/x)?",
                Just("https://other.example".to_owned()),
                Just("http://app.internal.example".to_owned()),
                Just("null".to_owned()),
                Just("*".to_owned()),
            ],
            1..4,
        ),
    ) {
        let policy = policy(&settings.replace('}', r#", "upstream_authorities": ["app.internal"]}"#));
        let decision = policy.request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls,
            method: b"GET",
            target: b"/m/x",
            host: Some(b"portal.example"),
            headers: &[],
        });
        let mut lines = vec![(field.as_bytes().to_vec(), origins.join(", ").into_bytes())];
        let headers = borrow(&lines);
        let edits = policy.response(&decision.exchange, &Response { status: 200, headers: &headers }).edits;
        apply(&mut lines, &mut Vec::new(), &edits);
        let sent = lines.pop().map(|(_, value)| String::from_utf8(value).expect("text")).unwrap_or_default();
        let sent: Vec<&str> = sent.split(',').map(str::trim).collect();
        prop_assert_eq!(sent.len(), origins.len());
        for (sent, origin) in sent.iter().zip(&origins) {
            let lower = origin.to_ascii_lowercase();
            let is_own = lower.contains("://app.internal:") || lower.ends_with("://app.internal")
                || lower.contains("://app.internal/") || lower.contains("://portal.example");
            if is_own {
                let public = [browser::origin(tls, "/"), browser::origin(tls, "https://pub.example/")];
                prop_assert!(public.contains(&(*sent).to_owned()), "{} became {}", origin, sent);
            } else {
                prop_assert_eq!(sent, origin);
            }
        }
    }

    /// No header that names the user passes from a stranger, in any spelling, whether the name is built in, listed or added
    /// by the host; a trusted peer passes the names that are listed, as they are spelt in the list.
    #[test]
    fn no_identity_header_of_a_stranger_passes(
        name in prop::sample::select(vec![
            "x-ms-client-principal-name", "x-ms-token-aad-id-token", "tailscale-user-login", "remote-user", "x-remote-groups",
            "x-forwarded-user", "x-auth-request-email", "x-auth-username", "x-goog-authenticated-user-email", "client-cert",
            "x-amzn-oidc-identity", "cf-access-jwt-assertion", "sm-user", "x-ssl-client-cert", "x-user-email", "oidc-claim-sub",
            "x-listed-login", "x-passed-login", "x-added-login",
        ]),
        spelling in prop::collection::vec((any::<bool>(), any::<bool>()), 40),
        trusted in any::<bool>(),
        in_trailers in any::<bool>(),
    ) {
        let mut policy = policy(
            r#"{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.1", "identity_headers": ["X-Listed_Login"],
                "trusted_pass_headers": ["X-Passed-Login", "Remote-User"]}"#,
        );
        policy.add_identity_header("a test", "X_Added-Login").expect("a name that can be removed");
        let spelt: Vec<u8> = name
            .bytes()
            .zip(spelling)
            .map(|(octet, (is_upper, is_underscore))| match octet {
                b'-' if is_underscore => b'_',
                octet if is_upper => octet.to_ascii_uppercase(),
                octet => octet,
            })
            .collect();
        let is_passed = trusted
            && !in_trailers
            && ["x-passed-login", "remote-user"].iter().any(|passed| spelt.eq_ignore_ascii_case(passed.as_bytes()));
        let line = (spelt.clone(), b"root".to_vec());
        let mut lines = if in_trailers { Vec::new() } else { vec![line.clone()] };
        let mut trailers = vec![line];
        let decision = policy.request(&Request {
            peer: Peer::Ip(if trusted { "10.0.0.1" } else { "10.0.0.2" }.parse().expect("an address")),
            identity: None,
            is_reentry: false,
            tls: false,
            method: b"GET",
            target: b"/",
            host: Some(b"portal.example"),
            headers: &borrow(&lines),
        });
        let Action::Forward(forward) = decision.action else {
            return Err(TestCaseError::fail("a request without a mount is not forwarded"));
        };
        apply(&mut lines, &mut Vec::new(), &forward.edits);
        let edits = policy.request_trailers(&borrow(&trailers));
        apply(&mut trailers, &mut Vec::new(), &edits);
        let arrived = lines.iter().any(|(other, _)| *other == spelt);
        prop_assert_eq!(arrived, is_passed, "{}", String::from_utf8_lossy(&spelt));
        prop_assert!(trailers.is_empty(), "{}", String::from_utf8_lossy(&spelt));
    }

    /// A `Refresh` changes where browsers find a URL in it, and nowhere else.
    #[test]
    fn refresh_is_read_as_browsers_read_it(parts in prop::collection::vec(
        prop::sample::select(vec![
            "0", "5", ".", ";", ",", " ", "\t", "u", "url", "URL", "=", "'", "\"", "/x", "x", "http://app.internal", "/m",
        ]),
        0..8,
    )) {
        let policy = policy(r#"{"root_path": "/m", "upstream_authorities": ["app.internal"]}"#);
        let decision = policy.request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls: true,
            method: b"GET",
            target: b"/m/x",
            host: Some(b"portal.example"),
            headers: &[],
        });
        let value = parts.concat();
        let rewrite = |field: &str, value: &str| {
            let mut lines = vec![(field.as_bytes().to_vec(), value.as_bytes().to_vec())];
            let headers = borrow(&lines);
            let edits = policy.response(&decision.exchange, &Response { status: 200, headers: &headers }).edits;
            apply(&mut lines, &mut Vec::new(), &edits);
            lines.pop().map(|(_, value)| String::from_utf8(value).expect("text")).unwrap_or_default()
        };
        let sent = rewrite("refresh", &value);
        match browser::refresh_url(&value) {
            Some(url) => {
                let want = rewrite("location", url);
                prop_assert_eq!(browser::refresh_url(&sent), Some(want.as_str()));
                prop_assert!(sent == value.replacen(url, &want, 1) || value.find(url) != value.rfind(url), "{}", sent);
            }
            None => prop_assert_eq!(sent, value),
        }
    }

    /// Each cookie is rewritten as if it were the only one.
    #[test]
    fn cookies_are_rewritten_one_by_one(
        settings in prop::sample::select(URL_SETTINGS.to_vec()),
        cookies in prop::collection::vec(
            prop_oneof![
                "[ -~\t\u{1}\u{7f}]{0,30}",
                "a=b; ?(Path|path) ?= ?(/|/x|/m|/m//x|//x)?(; Domain=(localhost|example))?",
            ],
            1..5,
        ),
    ) {
        let policy = policy(settings);
        let decision = policy.request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls: true,
            method: b"GET",
            target: b"/m/x",
            host: Some(b"portal.example"),
            headers: &[],
        });
        let rewrite = |cookies: &[String]| {
            let mut lines: Vec<Line> = cookies
                .iter()
                .map(|cookie| (b"set-cookie".to_vec(), cookie.clone().into_bytes()))
                .collect();
            let headers = borrow(&lines);
            let edits = policy.response(&decision.exchange, &Response { status: 200, headers: &headers }).edits;
            apply(&mut lines, &mut Vec::new(), &edits);
            lines
        };
        let alone: Vec<Line> = cookies.iter().flat_map(|cookie| rewrite(std::slice::from_ref(cookie))).collect();
        prop_assert_eq!(rewrite(&cookies), alone);
    }

    /// No fault of an element changes what is read to the right of it.
    #[test]
    fn an_element_affects_nothing_to_the_right(
        source in prop::sample::select(vec!["x-forwarded", "forwarded"]),
        left in prop_oneof![
            "[ -!#-~\t\u{80}-\u{ff}]{0,30}",
            "(for|host|proto|x)=(\"[ -!#-\\[\\]-~]*\"|[0-9a-z.:]*)(;(for|host)=[a-z0-9]*){0,3}",
            Just("for=1.1.1.1;for=1.1.1.1;proto=https;host=evil.example".to_owned()),
        ],
        trusted in prop::collection::vec(0_u8..9, 0..3),
        same_line in any::<bool>(),
    ) {
        let policy = policy(&format!(
            r#"{{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.0/8", "forwarded_source": "{source}"}}"#
        ));
        let (field, prefix) = match source {
            "forwarded" => ("forwarded", "for="),
            _ => ("x-forwarded-for", ""),
        };
        let mut right = format!("{prefix}203.0.113.9");
        if source == "forwarded" {
            right.push_str(";proto=https;host=portal.example");
        }
        for hop in trusted {
            right.push_str(&format!(", {prefix}10.0.0.{hop}"));
        }
        let lines: Vec<Line> = match same_line {
            true => vec![format!("{left}, {right}")],
            false => vec![left, right],
        }
        .into_iter()
        .map(|line| (field.as_bytes().to_vec(), line.into_bytes()))
        .collect();
        let decision = policy.request(&Request {
            peer: Peer::Ip("10.0.0.1".parse().expect("an address")),
            identity: None,
            is_reentry: false,
            tls: false,
            method: b"GET",
            target: b"/",
            host: Some(b"inner.example"),
            headers: &borrow(&lines),
        });
        prop_assert_eq!(decision.exchange.client_text.as_deref(), Some("203.0.113.9"));
        if source == "forwarded" {
            prop_assert_eq!(decision.exchange.effective.origin(), Some("https://portal.example".to_owned()));
        }
    }

    /// A redirect of the policy leads to the public origin, whatever the target.
    #[test]
    fn no_redirect_leaves_the_public_origin(
        settings in prop::sample::select(URL_SETTINGS.to_vec()),
        to_https in any::<bool>(),
        tls in any::<bool>(),
        target in url(),
    ) {
        let policy = policy(&settings.replace('}', &format!(r#", "redirect_to_https": {to_https}}}"#)));
        let decision = policy.request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls,
            method: b"GET",
            target: format!("/{target}").as_bytes(),
            host: Some(b"portal.example"),
            headers: &[],
        });
        if let Action::Reply(reply) = decision.action && let Some(location) = reply.location {
            let location = String::from_utf8(location).expect("text");
            let public = ["/", "https://portal.example/", "https://pub.example/"].map(|url| browser::origin(tls, url));
            prop_assert!(public.contains(&browser::origin(tls, &location)), "{}", location);
        }
    }

    /// Only the order of lines of the same name matters; the position of a header among others does not.
    #[test]
    fn the_order_of_different_headers_does_not_matter(
        lines in lines(),
        order in prop::collection::vec(any::<u32>(), 12),
        trusted in any::<bool>(),
    ) {
        let policy = policy(&format!(
            r#"{{"root_path": "/a", "trust_proxy": {trusted}, "forwarded_allow_ips": "10.0.0.0/8", "xff_mode": "chain"}}"#
        ));
        let mut shuffled: Vec<(u32, Line)> = order.into_iter().zip(lines.clone()).collect();
        // Lines of one name keep their order: they all get the position of the first.
        let positions: Vec<u32> = shuffled
            .iter()
            .map(|(_, (name, _))| {
                shuffled
                    .iter()
                    .find(|(_, (other, _))| other.eq_ignore_ascii_case(name))
                    .map_or(0, |(position, _)| *position)
            })
            .collect();
        for ((position, _), first) in shuffled.iter_mut().zip(positions) {
            *position = first;
        }
        shuffled.sort_by_key(|(position, _)| *position);
        let shuffled: Vec<Line> = shuffled.into_iter().map(|(_, line)| line).collect();
        let upstream = |mut lines: Vec<Line>| {
            let mut target = b"/a/x".to_vec();
            let decision = policy.request(&Request {
                peer: Peer::Ip("10.0.0.1".parse().expect("an address")),
                identity: None,
                is_reentry: false,
                tls: false,
                method: b"GET",
                target: &target.clone(),
                host: Some(b"portal.example"),
                headers: &borrow(&lines),
            });
            if let Action::Forward(forward) = decision.action {
                apply(&mut lines, &mut target, &forward.edits);
            }
            lines.sort();
            (lines, target, decision.record)
        };
        prop_assert_eq!(upstream(lines), upstream(shuffled));
    }

    /// The client that the policy writes is the client that it reads, in either family of headers.
    #[test]
    fn the_client_that_is_written_is_read_again(client in any::<std::net::IpAddr>(), port in any::<u16>()) {
        let client = client.to_canonical();
        prop_assume!(!client.is_unspecified());
        let hop = |policy: &Policy, peer: Peer, headers: &[Header<'_>]| {
            let mut lines = Vec::new();
            let decision = policy.request(&Request {
                peer,
                identity: None,
                is_reentry: false,
                tls: true,
                method: b"GET",
                target: b"/",
                host: Some(format!("portal.example:{}", port.max(1)).as_bytes()),
                headers,
            });
            if let Action::Forward(forward) = &decision.action {
                apply(&mut lines, &mut Vec::new(), &forward.edits);
            }
            (lines, decision.exchange)
        };
        let proxy = Peer::Ip("10.255.0.1".parse().expect("an address"));
        prop_assume!(Peer::Ip(client) != proxy);
        let (sent, first) = hop(&policy(r#"{"emit_forwarded": true}"#), Peer::Ip(client), &[]);
        for source in ["x-forwarded", "forwarded"] {
            let second_policy = policy(&format!(
                r#"{{"trust_proxy": true, "forwarded_allow_ips": "10.255.0.1", "forwarded_source": "{source}"}}"#
            ));
            let (_, second) = hop(&second_policy, proxy, &borrow(&sent));
            prop_assert_eq!(second.client.address, Some(client), "{}", source);
            prop_assert_eq!(&second.effective, &first.effective, "{}", source);
        }
    }
}

/// `client_ip_header` exempts its field from removal, even a field that the policy sets.
#[test]
fn a_field_that_carries_the_client_address_is_replaced() {
    let policy = policy(
        r#"{"root_path": "/a", "trust_proxy": true, "forwarded_allow_ips": "10.0.0.1", "client_ip_header": "x-envoy-original-path"}"#,
    );
    let mut lines = vec![(b"x-envoy-original-path".to_vec(), b"203.0.113.9".to_vec())];
    let decision = policy.request(&Request {
        peer: Peer::Ip("10.0.0.1".parse().expect("an address")),
        identity: None,
        is_reentry: false,
        tls: false,
        method: b"GET",
        target: b"/a/x",
        host: Some(b"app.example"),
        headers: &borrow(&lines),
    });
    let Action::Forward(forward) = decision.action else {
        panic!("the request is forwarded");
    };
    apply(&mut lines, &mut Vec::new(), &forward.edits);
    let paths = lines
        .iter()
        .filter(|(name, _)| name == b"x-envoy-original-path");
    let paths: Vec<&[u8]> = paths.map(|(_, value)| value.as_slice()).collect();
    assert_eq!(paths, [b"/a/x"]);
}
