//! Tests that fields which `Connection` nominates go no further than one hop, RFC 9110 §7.6.1.

use fluxlit_policy::Header;

use crate::support::{forward, get, policy, texts};

#[track_caller]
fn check(headers: &[Header<'_>], want: &[&str]) {
    let decision = policy("{}").request(&get("192.0.2.1", "/", headers));
    let edits: Vec<String> = texts(&forward(&decision).edits)
        .into_iter()
        .filter(|edit| !edit.starts_with("append x-"))
        .collect();
    assert_eq!(edits, want);
}

#[test]
fn a_nominated_field_is_removed_with_its_nomination() {
    check(
        &[
            (b"Connection", b"X-Hop, close"),
            (b"x-hop", b"1"),
            (b"x-other", b"2"),
        ],
        &["remove x-hop", "set connection: close"],
    );
    check(
        &[(b"connection", b"x-hop"), (b"x-hop", b"1")],
        &["remove x-hop", "remove connection"],
    );
}

#[test]
fn a_nomination_of_an_absent_field_is_removed() {
    check(&[(b"connection", b"x-hop")], &["remove connection"]);
}

#[test]
fn nominating_a_field_that_is_set_has_no_effect_on_it() {
    check(
        &[
            (b"connection", b"x-real-ip, keep-alive"),
            (b"x-real-ip", b"192.0.2.1"),
        ],
        &["set connection: keep-alive"],
    );
}

#[test]
fn fields_of_the_connection_are_left_to_the_host() {
    for option in [
        "close",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "Upgrade, , TE",
        "",
    ] {
        check(
            &[
                (b"connection", option.as_bytes()),
                (b"keep-alive", b"timeout=5"),
                (b"te", b"trailers"),
                (b"upgrade", b"websocket"),
            ],
            &[],
        );
    }
}

#[test]
fn a_set_field_that_has_no_value_can_be_nominated() {
    check(
        &[
            (b"connection", b"x-forwarded-prefix"),
            (b"x-forwarded-prefix", b"/a"),
        ],
        &["remove x-forwarded-prefix", "remove connection"],
    );
}
