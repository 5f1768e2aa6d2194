//! Compares how messages end: their length, their frames, an end that the filter holds, and an Envoy that crashes.

use super::{check, diff};
use crate::support::program::Files;

/// Adds `x-length` and `x-coding` to both messages: 0 if the message has `content-length` and `transfer-encoding`. Writes
/// `abc` over each body, or what the configuration has.
const ADDS_LENGTHS: &str = r#"
    (func $digit (param $map i32) (param $name i32) (param $size i32) (param $of i32) (param $of_size i32)
        (i32.store8 (i32.const 16) (i32.add (i32.const 48)
            (call $get (local.get $map) (local.get $of) (local.get $of_size) @to_result)))
        (drop (call $add (local.get $map) (local.get $name) (local.get $size) (i32.const 16) (i32.const 1))))
    (func $digits (param $map i32)
        (call $digit (local.get $map) @"x-length" @"content-length")
        (call $digit (local.get $map) @"x-coding" @"transfer-encoding"))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $digits (i32.const 0)) i32.const 0)
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $digits (i32.const 2)) i32.const 0)
    (func $write (param $buffer i32) (param $size i32)
        (if (local.get $size) (then
            (drop (call $set_buffer (local.get $buffer) (i32.const 0) (i32.const -1) @"abc")))))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $write (i32.const 0) (local.get 1)) i32.const 0)
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (call $write (i32.const 1) (local.get 1)) i32.const 0)"#;

#[test]
fn a_message_arrives_with_the_fields_that_the_case_has() {
    check(ADDS_LENGTHS, LENGTH_CASES);
}

const LENGTH_CASES: &str = r#"{"cases": [
    {"name": "no body", "request": {},
     "upstream": {"headers": {"x-length": ["1"], "x-coding": ["1"]}}, "downstream": {"headers": {"x-length": ["1"], "x-coding": ["1"]}}},
    {"name": "bodies without a length", "request": {"method": "POST", "body": "abcdef"},
     "upstream": {"body": "abc", "headers": {"x-length": ["1"], "x-coding": ["1"]}}, "answer": {"body": "ghijkl"},
     "downstream": {"body": "abc", "headers": {"x-length": ["1"], "x-coding": ["1"]}}},
    {"name": "bodies without a length in HTTP/2", "request": {"http": "2", "method": "POST", "body": "abcdef"},
     "upstream": {"body": "abc", "headers": {"x-length": ["1"], "x-coding": ["1"]}}, "answer": {"body": "ghijkl"},
     "downstream": {"body": "abc", "headers": {"x-length": ["1"], "x-coding": ["1"]}}},
    {"name": "a body without a length in HTTP/1.0", "request": {"http": "1.0", "method": "POST", "body": "abcdef"},
     "upstream": {"body": "abc", "headers": {"x-length": ["1"]}}, "answer": {"body": "ghijkl"}, "downstream": {"body": "abc"}},
    {"name": "bodies with a length", "request": {"method": "POST", "headers": [["Content-Length", "3"]], "body": "def"},
     "upstream": {"body": "abc", "headers": {"x-length": ["0"], "x-coding": ["1"]}},
     "answer": {"headers": [["content-length", "3"]], "body": "def"}, "downstream": {"body": "abc", "headers": {"x-length": ["0"]}}},
    {"name": "frames with a length", "request": {"method": "POST", "headers": [["content-length", "6"]], "frames": ["def", "ghi", ""]},
     "upstream": {"body": "abcabc", "headers": {"x-length": ["0"], "x-coding": ["1"]}},
     "answer": {"headers": [["content-length", "6"]], "frames": ["def", "ghi"]}, "downstream": {"body": "abcabc", "headers": {"x-length": ["0"]}}},
    {"name": "frames without a length", "request": {"method": "POST", "frames": ["d", "ef", ""]},
     "upstream": {"body": "abcabc", "headers": {"x-length": ["1"], "x-coding": ["1"]}},
     "answer": {"frames": ["d", "ef"]}, "downstream": {"body": "abcabc", "headers": {"x-length": ["1"], "x-coding": ["1"]}}},
    {"name": "trailers", "request": {"method": "POST", "body": "d", "trailers": [["t", "1"]]},
     "upstream": {"body": "abc", "headers": {"x-coding": ["1"]}, "trailers": {"t": ["1"]}},
     "answer": {"body": "d", "trailers": [["t", "1"]]}, "downstream": {"headers": {"x-coding": ["1"]}, "trailers": {"t": ["1"]}}},
    {"name": "HEAD and 204", "request": {"method": "HEAD"}, "upstream": {}, "downstream": {"headers": {"x-length": ["1"]}},
     "then": [{"request": {}, "upstream": {}, "answer": {"status": 204}, "downstream": {"headers": {"x-length": ["1"]}}}]}]}"#;

#[test]
fn a_response_to_a_call_arrives_with_the_fields_that_the_case_has() {
    check(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $call @"auth" @pairs(":method" "GET" ":path" "/" ":authority" "a") (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 500)))
            (global.set $stream (local.get 0)) i32.const 1)
        (global $stream (mut i32) (i32.const 0))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
            (i32.store8 (i32.const 16) (i32.add (i32.const 48) (call $get (i32.const 6) @"content-length" @to_result)))
            (drop (call $effective (global.get $stream)))
            (drop (call $add @request @"x-length" (i32.const 16) (i32.const 1)))
            (drop (call $continue (i32.const 0))))"#,
        r#"{"cases": [
        {"name": "without", "upstreams": {"auth": [{"body": "b"}, {}]}, "request": {}, "upstream": {"headers": {"x-length": ["1"]}},
         "then": [{"request": {}, "upstream": {"headers": {"x-length": ["1"]}}}]},
        {"name": "with", "upstreams": {"auth": [{"headers": [["content-length", "1"]], "body": "b"}]}, "request": {},
         "upstream": {"headers": {"x-length": ["0"]}}}]}"#,
    );
}

#[test]
fn an_end_that_the_filter_holds_is_not_the_end() {
    check(
        r#"(func (export "proxy_on_response_body") (param i32 i32) (param $end i32) (result i32) (local.get $end))"#,
        r#"{"cases": [
        {"name": "without a length", "request": {}, "upstream": {}, "answer": {"body": "abc"}, "downstream": {"body": "abc"}, "paused": true},
        {"name": "with a length", "request": {}, "upstream": {}, "answer": {"headers": [["content-length", "3"]], "body": "abc"},
         "downstream": {"body": "abc"}, "paused": true},
        {"name": "in HTTP/2", "request": {"http": "2"}, "upstream": {}, "answer": {"body": "abc"}, "downstream": {"body": "abc"},
         "paused": true}]}"#,
    );
}

/// Sends two responses in one callback if the response has the field `x-one`, which is fatal in Envoy 1.40.
const CRASHES: &str = r#"
    (func $reply_once
        (drop (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (if (i32.eqz (call $get @response @"x-one" @to_result)) (then (call $reply_once) (call $reply_once)))
        i32.const 0)"#;

#[test]
fn a_case_that_crashes_envoy_is_named_with_the_signal() {
    let Ok(envoy) = std::env::var("FLUXLIT_TEST_ENVOY") else {
        return;
    };
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", CRASHES);
    let path = files.write(
        "cases.json",
        r#"{"cases": [
        {"name": "before", "request": {}, "upstream": {}},
        {"name": "fatal", "request": {}, "upstream": {}, "answer": {"headers": [["x-one", "1"]]}},
        {"name": "after", "request": {}, "upstream": {}},
        {"name": "fatal again", "request": {}, "upstream": {}, "answer": {"headers": [["x-one", "1"]]}},
        {"name": "last", "request": {}, "upstream": {}}]}"#,
    );
    let run = diff(&envoy, &filter, &path);
    let fatal = |name| format!("differs  {path}: {name}\n         it ran / SIGSEGV ended Envoy\n");
    let want = format!(
        "{}{}3 the same, 2 differ, 0 skipped (host-test / Envoy)\n",
        fatal("fatal"),
        fatal("fatal again")
    );
    assert_eq!((run.stdout, run.code), (want, Some(1)), "{}", run.stderr);
}

#[test]
fn an_envoy_that_is_not_there_is_an_error_that_names_the_option() {
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", "");
    let path = files.write("cases.json", r#"{"cases": [{"name": "n", "request": {}}]}"#);
    let run = diff("/nonexistent", &filter, &path);
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr.contains("--envoy: give the path of"),
        "{}",
        run.stderr
    );
}
