//! Tests that bodies, pauses and local responses behave as in Envoy.

use std::time::Duration;

use host_test::event::Side;
use host_test::{Flow, Properties, lines};

use crate::support::guest::{exchange, plugin, request, texts};

#[test]
fn a_local_response_passes_the_response_callbacks_of_its_filter() {
    let plugin = plugin(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $reply (i32.const 403) (i32.const 0) (i32.const 0) @"value"
                (i32.const 0) (i32.const 0) (i32.const -1)))
            i32.const 0)
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $log_digit (local.get 2))
            (drop (call $add @response @"x-one" @"value"))
            i32.const 0)
        (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
            (call $log_digit (local.get 1)) (call $log_digit (local.get 2)) i32.const 0)"#,
    );
    let outcome = exchange(&plugin);
    assert_eq!(texts(&outcome.logs), "0 5 1");
    assert_eq!(outcome.upstream, None);
    assert_eq!(outcome.local_reply.unwrap().status, 403);
    let downstream = outcome.downstream.unwrap();
    let want = [
        (":status", "403"),
        ("content-length", "5"),
        ("content-type", "text/plain"),
        ("x-one", "value"),
    ];
    assert_eq!(downstream.headers, lines(&want));
    assert_eq!(downstream.body, b"value");
}

#[test]
fn a_reply_in_response_headers_replaces_the_response_without_callbacks() {
    let plugin = plugin(
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $log_digit (i32.const 7))
            (call $reply (i32.const 500) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const -1)))"#,
    );
    let outcome = exchange(&plugin);
    assert_eq!(texts(&outcome.logs), "7");
    assert_eq!(
        outcome.downstream.unwrap().headers,
        lines(&[(":status", "500")])
    );
}

#[test]
fn held_frames_are_sent_with_the_next_continued_one() {
    let plugin = plugin(
        r#"(func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
            (call $log_digit (local.get $size))
            ;; Hold the first frame of two bytes.
            (i32.eq (local.get $size) (i32.const 2)))"#,
    );
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), false);
    assert_eq!(stream.request_body(b"ab".to_vec(), false), Flow::Paused);
    assert_eq!(stream.take_body(Side::Request), b"");
    assert_eq!(stream.request_body(b"cde".to_vec(), false), Flow::Continue);
    assert_eq!(stream.take_body(Side::Request), b"abcde");
    assert_eq!(stream.request_body(Vec::new(), true), Flow::Continue);
    let outcome = stream.finish();
    assert_eq!(texts(&outcome.logs), "2 5 0");
    assert!(outcome.upstream.unwrap().is_complete);
}

#[test]
fn a_body_can_be_replaced_at_its_start_and_extended_at_its_end() {
    for (start, size, status, want) in [
        (0, 2, "0", "valuec"),
        (0, 0, "0", "valueabc"),
        (0, 9, "0", "value"),
        (3, 0, "0", "abcvalue"),
        (9, 9, "0", "abcvalue"),
        (1, 1, "2", "abc"),
    ] {
        let plugin = plugin(&format!(
            r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
                (call $log_digit (call $set_buffer (i32.const 1) (i32.const {start}) (i32.const {size}) @"value"))
                i32.const 0)"#
        ));
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(request(), true);
        stream.response_headers(lines(&[(":status", "200")]), false);
        stream.response_body(b"abc".to_vec(), true);
        let outcome = stream.finish();
        assert_eq!(texts(&outcome.logs), status, "{start} {size}");
        assert_eq!(outcome.downstream.unwrap().body, want.as_bytes());
    }
}

#[test]
fn held_headers_hold_the_body_until_a_tick_continues_them() {
    let plugin = plugin(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 10))) i32.const 1)
        (func (export "proxy_on_tick") (param i32)
            (call $log_digit (call $effective (i32.const 2)))
            (call $log_digit (call $replace @request @"x-one" @"value"))
            (call $log_digit (call $continue (i32.const 0))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (call $log_digit (local.get 1))
            ;; The headers have been sent by now.
            (call $log_digit (call $size @request (i32.const 0)))
            i32.const 0)"#,
    );
    let mut stream = plugin.stream(Properties::default());
    assert_eq!(stream.request_headers(request(), false), Flow::Paused);
    assert_eq!(stream.request_body(b"abc".to_vec(), true), Flow::Paused);
    assert_eq!(stream.headers(Side::Request), None);
    plugin.advance(Duration::from_millis(10));
    assert_eq!(stream.flow(Side::Request), Flow::Continue);
    let outcome = stream.finish();
    // The tick acts on behalf of the stream.
    assert_eq!(texts(&plugin.logs()), "");
    assert_eq!(texts(&outcome.logs), "0 0 0 3 2");
    let upstream = outcome.upstream.unwrap();
    assert_eq!(upstream.headers.get_all("x-one"), [b"value"]);
    assert_eq!(
        (upstream.body.as_slice(), upstream.is_complete),
        (&b"abc"[..], true)
    );
}

#[test]
fn trailers_can_be_added_in_the_last_body_callback() {
    let plugin = plugin(
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (call $log_digit (call $add @request_trailers @"x-one" @"value"))
            i32.const 0)"#,
    );
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), false);
    stream.request_body(b"abc".to_vec(), false);
    stream.request_body(Vec::new(), true);
    let outcome = stream.finish();
    assert_eq!(texts(&outcome.logs), "2 0");
    assert_eq!(
        outcome.upstream.unwrap().trailers,
        lines(&[("x-one", "value")])
    );
}

#[test]
fn a_closed_stream_is_reset() {
    let plugin = plugin(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (drop (call $close (i32.const 0))) i32.const 0)"#,
    );
    let outcome = exchange(&plugin);
    assert!(outcome.is_reset);
    assert_eq!((outcome.upstream, outcome.downstream), (None, None));
}

#[test]
fn overlapping_streams_have_separate_contexts() {
    let plugin = plugin(
        r#"(func (export "proxy_on_response_headers") (param $context i32) (param i32 i32) (result i32)
            (call $log_digit (local.get $context)) i32.const 0)"#,
    );
    let mut one = plugin.stream(Properties::default());
    let mut two = plugin.stream(Properties::default());
    one.request_headers(lines(&[(":path", "/1")]), true);
    two.request_headers(lines(&[(":path", "/2")]), true);
    two.response_headers(lines(&[(":status", "202")]), true);
    one.response_headers(lines(&[(":status", "201")]), true);
    let (one, two) = (one.finish(), two.finish());
    assert_eq!(
        (texts(&one.logs), texts(&two.logs)),
        ("2".into(), "3".into())
    );
    assert_eq!(one.upstream.unwrap().headers.get(":path"), Some(&b"/1"[..]));
    assert_eq!(
        two.downstream.unwrap().headers.get(":status"),
        Some(&b"202"[..])
    );
}
