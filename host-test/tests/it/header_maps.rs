//! Tests which header maps a filter can use in which callback, with the statuses of Envoy 1.40.

use host_test::lines;

use crate::support::guest::{exchange, plugin, texts};

/// A callback that logs, for each of the maps 0, 2, 1, 7 and 8, four statuses: of reading an absent value, all pairs, the
/// size, and of replacing a value.
fn probe(callback: &str, parameters: &str, result: Option<i32>) -> String {
    let probes: String = [0, 2, 1, 7, 8]
        .map(|map| {
            format!(
                r#"(call $log_digit (call $get (i32.const {map}) @"absent" @to_result))
                (call $log_digit (call $pairs (i32.const {map}) @to_result))
                (call $log_digit (call $size (i32.const {map}) (i32.const 0)))
                (call $log_digit (call $replace (i32.const {map}) @"x-one" @"value"))"#
            )
        })
        .concat();
    let (result, value) = match result {
        None => ("", String::new()),
        Some(value) => ("(result i32)", format!("i32.const {value}")),
    };
    format!(r#"(func (export "{callback}") (param {parameters}) {result} {probes} {value})"#)
}

#[test]
fn the_maps_of_a_stream() {
    for (callback, parameters, result, want) in [
        (
            "proxy_on_request_headers",
            "i32 i32 i32",
            Some(0),
            ["1 0 0 0", "2 0 2 2", "2 0 2 2", "2 0 2 2", "2 2 2 2"],
        ),
        (
            "proxy_on_response_headers",
            "i32 i32 i32",
            Some(0),
            ["2 0 2 2", "1 0 0 0", "2 0 2 2", "2 0 2 2", "2 2 2 2"],
        ),
        (
            "proxy_on_log",
            "i32",
            None,
            ["1 0 2 2", "1 0 2 2", "1 0 2 2", "1 0 2 2", "2 2 2 2"],
        ),
    ] {
        let outcome = exchange(&plugin(&probe(callback, parameters, result)));
        assert_eq!(outcome.failure, None, "{callback}");
        assert_eq!(texts(&outcome.logs), want.join(" "), "{callback}");
    }
}

#[test]
fn the_maps_outside_of_streams() {
    let plugin = plugin(&probe("proxy_on_configure", "i32 i32", Some(1)));
    let want = ["2 0 2 2", "2 0 2 2", "2 0 2 2", "2 0 2 2", "2 2 2 2"];
    assert_eq!(texts(&plugin.logs()), want.join(" "));
}

#[test]
fn edits_reach_the_upstream() {
    let plugin = plugin(
        r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $get @request @"x-one" @to_result))
            (call $log_result)
            (drop (call $replace @request @"x-one" @"value"))
            (drop (call $add @request @"X-New" @"value"))
            (drop (call $replace @request @"Host" @"value"))
            (call $log_digit (call $remove @request @"absent"))
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
fn an_empty_serialized_map_has_0_or_1_or_4_bytes() {
    for length in [0, 1, 4] {
        let plugin = plugin(&format!(
            r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
                (call $log_digit (call $set_pairs @response (i32.const 300) (i32.const {length}))) i32.const 0)"#
        ));
        let outcome = exchange(&plugin);
        assert_eq!(texts(&outcome.logs), "0");
        assert!(outcome.downstream.unwrap().headers.is_empty());
    }
}
