//! Tests what a policy tells its host about its settings.

use fluxlit_policy::{Defaults, Peer, Policy, Request, SubApp, SubAppPath};

use crate::support::{get, policy};

#[track_caller]
fn errors(settings: &str) -> String {
    Policy::from_json(settings.as_bytes(), Defaults::FILTER)
        .err()
        .map_or(String::new(), |errors| errors.to_string())
}

#[test]
fn a_policy_without_settings_trusts_nobody_and_publishes_at_the_root() {
    let policy = policy("{}");
    assert_eq!(policy.mount(), "");
    assert_eq!(policy.peer_filter_state_key(), None);
    assert!(!policy.needs_identity());
    assert!(!policy.is_report_only());
    assert!(!policy.trusts(Peer::Ip("127.0.0.1".parse().unwrap())));
    assert_eq!(policy.warnings(), []);
}

#[test]
fn a_policy_tells_its_settings() {
    let policy = policy(
        r#"{
            "root_path": "/apps/my-app/", "report_only": true, "peer_filter_state_key": "fluxlit.peer",
            "trust_proxy": true, "trusted_identities": ["spiffe://cluster/gateway"], "forwarded_allow_ips": "10.0.0.1"
        }"#,
    );
    assert_eq!(policy.mount(), "/apps/my-app");
    assert_eq!(policy.peer_filter_state_key(), Some("fluxlit.peer"));
    assert!(policy.needs_identity());
    assert!(policy.is_report_only());
    assert!(policy.trusts(Peer::Ip("10.0.0.1".parse().unwrap())));
    assert!(!policy.trusts(Peer::Ip("10.0.0.2".parse().unwrap())));
    let warnings: Vec<String> = policy.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("report_only"), "{warnings:?}");
}

#[test]
fn the_listener_records_the_peer_under_one_key() {
    let facts = policy(r#"{"connection_facts_key": "fluxlit.connection"}"#);
    assert_eq!(facts.connection_facts_key(), Some("fluxlit.connection"));
    assert_eq!(facts.peer_filter_state_key(), None);
    for key in ["connection_facts_key", "peer_filter_state_key"] {
        let empty = errors(&format!(r#"{{"{key}": ""}}"#));
        assert!(
            empty.contains(&format!("{key} must not be empty")),
            "{empty}"
        );
    }
    let both = errors(r#"{"connection_facts_key": "a", "peer_filter_state_key": "b"}"#);
    assert!(both.contains("both name the peer"), "{both}");
}

#[test]
fn several_mounts_are_not_one() {
    let policy = policy(r#"{"mounts": [{"root_path": "/a"}, {"root_path": "/b"}]}"#);
    assert_eq!(policy.mount(), "");
}

#[test]
fn an_error_names_the_apps_that_are_ambiguous() {
    let same_mount =
        errors(r#"{"mounts": [{"root_path": "/b"}, {"root_path": "/a"}, {"root_path": "/a/"}]}"#);
    assert!(same_mount.contains("mounts[1]"), "{same_mount}");
    assert!(same_mount.contains("mounts[2]"), "{same_mount}");
    assert!(same_mount.contains("\"/a/\""), "{same_mount}");
    let same_host = errors(
        r#"{"mounts": [
            {"root_path": "/a", "root_path_shape": "full"},
            {"root_path": "/b", "root_path_shape": "stripped"},
            {"root_path": "/c", "root_path_shape": "auto"}
        ]}"#,
    );
    assert!(same_host.contains("mounts[1]"), "{same_host}");
    assert!(same_host.contains("mounts[2]"), "{same_host}");
}

#[test]
fn a_sub_app_tells_its_path() {
    let path = |written| {
        SubApp::parse(written, SubAppPath::Stripped).map(|sub_app| sub_app.path().to_owned())
    };
    assert_eq!(path("api/v1/").as_deref(), Some("/api/v1"));
}

#[test]
fn an_unknown_setting_is_compared_with_the_known_ones() {
    let similar = errors(r#"{"rootpath": "/a"}"#);
    assert!(similar.contains("did you mean \"root_path\"?"), "{similar}");
    let different = errors(r#"{"qqqqqqqqq": "/a"}"#);
    assert!(different.contains("qqqqqqqqq"), "{different}");
    assert!(!different.contains("did you mean"), "{different}");
}

#[test]
fn hsts_has_one_preset() {
    assert_eq!(errors(r#"{"hsts": "fluxlit"}"#), "");
    assert!(errors(r#"{"hsts": "other"}"#).contains("hsts"));
}

#[test]
fn all_errors_are_returned_together() {
    let settings = r#"{"hsts": "other", "root_path": "/a//b"}"#;
    let errors = Policy::from_json(settings.as_bytes(), Defaults::FILTER)
        .expect_err("two settings are invalid");
    assert_eq!(errors.errors().len(), 2, "{errors}");
    let text = errors.to_string();
    let codes: Vec<&str> = text
        .split('\n')
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(codes, ["E15", "E12"], "{text}");
}

/// Hosts print it, and tell the app about it.
#[test]
fn an_exchange_tells_the_public_origin() {
    let request = get("192.0.2.1", "/", &[]);
    let nameless = Request {
        host: None,
        ..request
    };
    for (settings, request, wanted) in [
        ("{}", request, Some("http://app.example")),
        ("{}", nameless, None),
        (
            r#"{"public_base_url": "https://portal.example:8443/p"}"#,
            request,
            Some("https://portal.example:8443"),
        ),
    ] {
        let exchange = policy(settings).request(&request).exchange;
        let origin = exchange.public_origin();
        assert_eq!(origin.as_deref(), wanted, "{settings}");
    }
}
