//! Which header map can be used when, and with which status otherwise?
//!
//! The table of Envoy 1.40: rows are maps, columns phases, cells value / pairs / size / replace.

use host_test::lines;

use crate::guest::{exchange, plugin, texts};

/// Logs, for maps 0, 2, 1, 7 and 8, the statuses of a present or absent value, all pairs, the size and a replacement.
fn probe(callback: &str, parameters: &str, returns: &str) -> String {
    let probes: String = [0, 2, 1, 7, 8]
        .map(|map| {
            format!(
                "(call $report (call $get (i32.const {map}) (i32.const 48) (i32.const 6) (i32.const 0) (i32.const 4)))
                (call $report (call $pairs (i32.const {map}) (i32.const 0) (i32.const 4)))
                (call $report (call $size (i32.const {map}) (i32.const 0)))
                (call $report (call $replace (i32.const {map}) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))"
            )
        })
        .concat();
    let (result, value) = match returns {
        "" => (String::new(), ""),
        value => ("(result i32)".to_owned(), value),
    };
    format!("(func (export \"{callback}\") {parameters} {result} {probes} {value})")
}

#[track_caller]
fn check(callback: &str, parameters: &str, returns: &str, want: [&str; 5]) {
    let outcome = exchange(&plugin(&probe(callback, parameters, returns)));
    assert_eq!(outcome.failure, None);
    assert_eq!(texts(&outcome.logs), want.join(" "));
}

#[test]
fn in_request_headers() {
    check(
        "proxy_on_request_headers",
        "(param i32 i32 i32)",
        "i32.const 0",
        ["1 0 0 0", "2 0 2 2", "2 0 2 2", "2 0 2 2", "2 2 2 2"],
    );
}

#[test]
fn in_response_headers() {
    check(
        "proxy_on_response_headers",
        "(param i32 i32 i32)",
        "i32.const 0",
        ["2 0 2 2", "1 0 0 0", "2 0 2 2", "2 0 2 2", "2 2 2 2"],
    );
}

#[test]
fn in_on_log() {
    check(
        "proxy_on_log",
        "(param i32)",
        "",
        ["1 0 2 2", "1 0 2 2", "1 0 2 2", "1 0 2 2", "2 2 2 2"],
    );
}

#[test]
fn in_the_plugins_own_context() {
    let plugin = plugin(&probe(
        "proxy_on_configure",
        "(param i32 i32)",
        "i32.const 1",
    ));
    let want = ["2 0 2 2", "2 0 2 2", "2 0 2 2", "2 0 2 2", "2 2 2 2"];
    assert_eq!(texts(&plugin.logs()), want.join(" "));
}

#[test]
fn edits_reach_the_upstream() {
    let plugin = plugin(
        r#"(data (i32.const 200) "X-New") (data (i32.const 210) "Host")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4)))
            (call $say_result)
            (drop (call $replace (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))
            (drop (call $add (i32.const 0) (i32.const 200) (i32.const 5) (i32.const 32) (i32.const 5)))
            (drop (call $replace (i32.const 0) (i32.const 210) (i32.const 4) (i32.const 32) (i32.const 5)))
            (call $report (call $remove (i32.const 0) (i32.const 48) (i32.const 6)))
            i32.const 0)"#,
    );
    let outcome = exchange(&plugin);
    assert_eq!(texts(&outcome.logs), "first 0");
    let want = [
        (":authority", "value"),
        (":path", "/a"),
        (":method", "GET"),
        (":scheme", "http"),
        ("x-one", "value"),
        ("x-new", "value"),
    ];
    assert_eq!(outcome.upstream.unwrap().headers, lines(&want));
}

#[test]
fn all_three_empty_maps_empty_a_map() {
    for length in [0, 1, 4] {
        let plugin = plugin(&format!(
            r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
                (call $report (call $set_pairs (i32.const 2) (i32.const 300) (i32.const {length}))) i32.const 0)"#
        ));
        let outcome = exchange(&plugin);
        assert_eq!(texts(&outcome.logs), "0");
        assert!(outcome.downstream.unwrap().headers.is_empty());
    }
}
