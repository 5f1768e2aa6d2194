//! Tests requests that a proxy processes a second time, as after an internal redirect.

use fluxlit_policy::{Edit, Edits, Header, Request};

use crate::support::{apply, borrow, forward, get, policy, texts};

/// The headers of the first pass, from a trusted proxy.
const FORWARDED: [Header<'_>; 5] = [
    (b"x-forwarded-for", b"203.0.113.9, 10.0.0.2"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"portal.example"),
    (b"x-forwarded-port", b"8443"),
    (b"x-forwarded-prefix", b"/outer"),
];

/// Decides the request, and then `target` with the headers that the first decision has set. Returns the mount of the
/// second pass and its edits.
#[track_caller]
fn pass_twice(settings: &str, first: &str, target: &str) -> (String, Vec<String>) {
    let policy = policy(&format!(
        r#"{{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.0/8", "prefix_from_header": true, {settings}}}"#
    ));
    let decision = policy.request(&get("10.0.0.1", first, &FORWARDED));
    let mut lines: Vec<_> = FORWARDED
        .iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect();
    apply(&mut lines, &forward(&decision).edits);
    let headers = borrow(&lines);
    let again = policy.request(&Request {
        is_reentry: true,
        ..get("10.0.0.1", target, &headers)
    });
    assert_eq!(
        again.exchange.client.address,
        decision.exchange.client.address
    );
    assert_eq!(again.exchange.effective, decision.exchange.effective);
    assert!(!again.exchange.forwarded_ignored);
    let edits: Edits = forward(&again)
        .edits
        .iter()
        .filter(|edit| !matches!(edit, Edit::Host(_)))
        .collect();
    (again.exchange.mount(), texts(&edits))
}

#[test]
fn the_client_the_origin_and_the_mount_are_those_of_the_first_pass() {
    for mode in ["client", "chain"] {
        let settings = format!(r#""root_path": "/m", "xff_mode": "{mode}""#);
        // The app redirects to its own path, without the mount.
        assert_eq!(
            pass_twice(&settings, "/m/x?q", "/y"),
            ("/outer/m".to_owned(), vec![])
        );
    }
}

#[test]
fn an_app_that_receives_its_mount_redirects_with_it() {
    let settings = r#""root_path": "/m", "upstream_path": "full""#;
    assert_eq!(
        pass_twice(settings, "/m/x", "/outer/m/y"),
        ("/outer/m".to_owned(), vec![])
    );
}

#[test]
fn the_app_of_a_path_without_its_mount_is_found_by_the_prefix() {
    let settings = r#""root_path": "/m", "root_path_shape": "stripped""#;
    assert_eq!(
        pass_twice(settings, "/x", "/y"),
        ("/outer/m".to_owned(), vec![])
    );
}

#[test]
fn of_several_apps_the_one_of_the_first_pass_is_found() {
    let settings =
        r#""mounts": [{"root_path": "/a"}, {"root_path": "/outer"}, {"root_path": "/a/b"}]"#;
    assert_eq!(
        pass_twice(settings, "/a/b/x", "/y"),
        ("/outer/a/b".to_owned(), vec![])
    );
}

#[test]
fn the_mount_itself_is_not_redirected_again() {
    let settings = r#""root_path": "/m", "upstream_path": "full""#;
    let (mount, _) = pass_twice(settings, "/m/x", "/outer/m");
    assert_eq!(mount, "/outer/m");
}
