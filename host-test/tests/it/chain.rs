//! Tests chains of filters: each sees what the previous one let pass, in both directions.

use std::time::Duration;

use host_test::chain::Chain;
use host_test::event::Side;
use host_test::{Flow, Plugin, Properties, lines};

use crate::support::guest::{plugin, request, texts};

/// Adds `x-one: NAME` to requests and responses.
fn adds(name: char) -> Plugin {
    plugin(&format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $add @request @"x-one" @"{name}"))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $add @response @"x-one" @"{name}"))"#
    ))
}

#[test]
fn requests_go_forward_and_responses_back() {
    let chain = Chain::new([adds('A'), adds('B')]);
    let mut stream = chain.stream(&Properties::default());
    let flow = stream.request_headers(lines(&[(":path", "/")]), true);
    assert_eq!(flow, Flow::Continue);
    stream.response_headers(lines(&[(":status", "200")]), true);
    let outcome = stream.finish();
    let (upstream, downstream) = (outcome.upstream.unwrap(), outcome.downstream.unwrap());
    assert_eq!(upstream.headers.get_all("x-one"), [b"A", b"B"]);
    assert_eq!(downstream.headers.get_all("x-one"), [b"B", b"A"]);
    assert!(upstream.is_complete && downstream.is_complete);
}

#[test]
fn a_local_response_passes_only_the_filters_before_its_own() {
    let replies = plugin(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $reply (i32.const 403) (i32.const 0) (i32.const 0) @"value" (i32.const 0) (i32.const 0) (i32.const -1)))"#,
    );
    let chain = Chain::new([adds('A'), replies, adds('B')]);
    let mut stream = chain.stream(&Properties::default());
    assert_eq!(stream.request_headers(request(), true), Flow::Replied);
    let outcome = stream.finish();
    assert_eq!(outcome.upstream, None);
    let downstream = outcome.downstream.unwrap();
    assert_eq!(downstream.headers.get(":status"), Some(&b"403"[..]));
    assert_eq!(downstream.headers.get_all("x-one"), [b"A"]);
    assert_eq!(downstream.body, b"value");
    assert_eq!(outcome.filters[2].upstream, None);
}

#[test]
fn the_response_for_a_failed_filter_skips_the_filters_before_it() {
    let failing = plugin(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable)"#,
    );
    let chain = Chain::new([adds('A'), failing]);
    let mut stream = chain.stream(&Properties::default());
    stream.request_headers(request(), true);
    let outcome = stream.finish();
    assert!(outcome.filters[1].failure.is_some());
    let downstream = outcome.downstream.unwrap();
    assert_eq!(downstream.headers, lines(&[(":status", "503")]));
}

#[test]
fn a_held_body_reaches_the_next_filter_when_it_is_continued() {
    let holds_until_tick = plugin(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 10))) i32.const 1)
        (func (export "proxy_on_tick") (param i32) (drop (call $effective (i32.const 2))) (drop (call $continue (i32.const 0))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)"#,
    );
    let logs_frames = plugin(
        r#"(func (export "proxy_on_request_body") (param i32) (param $size i32) (param $end i32) (result i32)
            (call $log_digit (local.get $size)) (call $log_digit (local.get $end)) i32.const 0)"#,
    );
    let chain = Chain::new([holds_until_tick.clone(), logs_frames]);
    let mut stream = chain.stream(&Properties::default());
    assert_eq!(stream.request_headers(request(), false), Flow::Paused);
    stream.request_body(b"abc".to_vec(), false);
    stream.request_body(Vec::new(), true);
    holds_until_tick.advance(Duration::from_millis(10));
    assert_eq!(stream.flow(Side::Request), Flow::Continue);
    let outcome = stream.finish();
    // Frames that wait for paused headers come as one, here and in the next filter.
    assert_eq!(texts(&outcome.filters[1].logs), "3 1");
    assert_eq!(outcome.upstream.unwrap().body, b"abc");
}
