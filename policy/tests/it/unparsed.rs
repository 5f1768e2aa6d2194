//! Tests the exchange of a request that could not be parsed.

use fluxlit_policy::{Defaults, Edit, Header, Peer, Policy, Response, UnparsedRequest};

/// Returns the names of the headers that a response to such a request gets.
fn added(settings: &str, tls: bool, host: Option<&str>, headers: &[Header<'_>]) -> Vec<String> {
    let policy = Policy::from_json(settings.as_bytes(), Defaults::GATEWAY).expect("valid settings");
    let exchange = policy.unparsed_request(&UnparsedRequest {
        peer: Peer::Ip("192.0.2.1".parse().expect("an address")),
        tls,
        host: host.map(str::as_bytes),
        headers,
    });
    let response = policy.response(
        &exchange,
        &Response {
            status: 400,
            headers: &[(b"content-type", b"text/plain")],
        },
    );
    let mut names = Vec::new();
    for edit in response.edits.iter() {
        match edit {
            Edit::Append(name, _) | Edit::Set(name, _) => names.push(name.to_owned()),
            edit => names.push(format!("{edit:?}")),
        }
    }
    names
}

#[test]
fn hsts_follows_the_effective_scheme_and_host() {
    let hsts = "strict-transport-security";
    let trusting = r#"{"hsts": true, "trust_proxy": true, "forwarded_allow_ips": "192.0.2.1"}"#;
    let forwarded: [Header<'_>; 1] = [(b"x-forwarded-proto", b"https")];
    for (settings, tls, host, headers, is_sent) in [
        (
            r#"{"hsts": true}"#,
            true,
            Some("app.example"),
            &[][..],
            true,
        ),
        (r#"{"hsts": true}"#, false, Some("app.example"), &[], false),
        (
            r#"{"hsts": true}"#,
            false,
            Some("app.example"),
            &forwarded,
            false,
        ),
        (trusting, false, Some("app.example"), &forwarded, true),
        (r#"{"hsts": true}"#, true, Some("a b"), &[], false),
        (r#"{"hsts": true}"#, true, None, &[], false),
        ("{}", true, Some("app.example"), &[], false),
    ] {
        let want: &[&str] = if is_sent { &[hsts] } else { &[] };
        assert_eq!(
            added(settings, tls, host, headers),
            want,
            "{settings} {tls} {host:?}"
        );
    }
}

#[test]
fn headers_by_path_are_those_of_the_root() {
    let csp = "content-security-policy";
    let rules =
        r#""content_security_policy": [{"path_prefix": "/", "value": "default-src 'self'"}]"#;
    for (settings, host, is_sent) in [
        (format!("{{{rules}}}"), "app.example", true),
        (
            format!(r#"{{{rules}, "redirect_to_https": true}}"#),
            "app.example",
            true,
        ),
        (
            format!(r#"{{{rules}, "allowed_hosts": ["app.example"]}}"#),
            "other.example",
            false,
        ),
        (format!("{{{rules}}}"), "a b", false),
    ] {
        let want: &[&str] = if is_sent { &[csp] } else { &[] };
        assert_eq!(
            added(&settings, false, Some(host), &[]),
            want,
            "{settings} {host}"
        );
    }
}
