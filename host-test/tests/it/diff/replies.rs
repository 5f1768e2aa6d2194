//! Compares local responses.

use super::check;

/// Replies in the callback that the configuration names: `h` request headers, `b` request body, `r` response headers, `s`
/// response body. `2` replies twice, `e` without a body, `c` closes the stream in the response headers.
const REPLIES: &str = r#"
    (global $variant (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
        (global.set $variant (i32.load8_u (i32.load (i32.const 0)))) i32.const 1)
    (func $reply_with (param $body i32) (param $size i32) (result i32)
        (drop (call $reply (i32.const 418) @"why not" (local.get $body) (local.get $size)
            @pairs("x-one" "a" "x-one" "b") (i32.const -1))) i32.const 1)
    (func $at (param $letter i32) (result i32)
        (if (i32.eq (global.get $variant) (local.get $letter)) (then (return (call $reply_with @"value"))))
        i32.const 0)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (i32.eq (global.get $variant) @'2') (then (drop (call $reply_with @"value")) (return (call $reply_with @""))))
        (if (i32.eq (global.get $variant) @'e') (then (return (call $reply_with @""))))
        (call $at @'h'))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $at @'b'))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (if (i32.eq (global.get $variant) @'c') (then (drop (call $close (i32.const 1)))))
        (call $at @'r'))
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (call $at @'s'))"#;

#[test]
fn local_responses() {
    check(REPLIES, REPLY_CASES);
}

const REPLY_CASES: &str = r#"{"cases": [
    {"name": "in the request headers", "config": "h", "request": {"method": "POST", "body": "abc"},
     "downstream": {"status": 418, "body": "value", "headers": {"x-one": ["a", "b"], "content-type": ["text/plain"]}},
     "reply": {"details": "why_not"}},
    {"name": "to a HEAD request", "config": "h", "request": {"method": "HEAD"}, "downstream": {"status": 418, "body": ""}},
    {"name": "to a gRPC request", "config": "h", "request": {"http": "2", "headers": [["content-type", "application/grpc"]]},
     "downstream": {"status": 200, "headers": {"grpc-status": ["2"]}}},
    {"name": "without a body", "config": "e", "request": {}, "downstream": {"status": 418, "headers": {"content-type": []}}},
    {"name": "in the request body", "config": "b", "request": {"method": "POST", "body": "abc"}, "upstream": {"method": "POST"},
     "downstream": {"status": 418}, "reply": {"status": 418}},
    {"name": "instead of the response", "config": "r", "request": {}, "upstream": {}, "answer": {"headers": [["x", "1"]], "body": "def"},
     "downstream": {"status": 418, "body": "value", "headers": {"x": []}}, "reply": {"status": 418}},
    {"name": "too late", "config": "s", "request": {}, "upstream": {}, "answer": {"body": "def"}, "reset": true},
    {"name": "twice", "config": "2", "request": {}, "downstream": {"status": 418}},
    {"name": "closed before the response", "config": "c", "request": {}, "upstream": {}, "reset": true},
    {"name": "HEAD", "request": {"method": "HEAD"}, "upstream": {}, "downstream": {"body": ""}},
    {"name": "204", "request": {}, "upstream": {}, "answer": {"status": 204}, "downstream": {"status": 204}},
    {"name": "304", "request": {"http": "2"}, "upstream": {}, "answer": {"status": 304, "headers": [["etag", "\"x\""]]}, "downstream": {"status": 304}},
    {"name": "repeated fields", "request": {"headers": [["a", "1"], ["B", " 2 "], ["a", "3"], ["x-forwarded-for", "192.0.2.7"], ["x-forwarded-for", "192.0.2.8"]]},
     "upstream": {"headers": {"a": ["1", "3"], "b": ["2"]}}, "answer": {"headers": [["Set-Cookie", "a"], ["x", "\u00e9"], ["set-cookie", "b"]]},
     "downstream": {"headers": {"set-cookie": ["a", "b"], "x": ["\u00e9"]}}}]}"#;

#[test]
fn a_filter_that_holds_its_own_local_response() {
    let holds = r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $reply (i32.const 403) @"value" @"value" (i32.const 0) (i32.const 0) (i32.const -1)))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 1)"#;
    let cases =
        r#"{"cases": [{"name": "n", "request": {}, "paused": true, "reply": {"status": 403}}]}"#;
    check(holds, cases);
}
