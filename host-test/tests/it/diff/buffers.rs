//! Compares what happens to bodies that a filter holds beyond the buffer limit.

use super::check;

/// The configuration is the result of each callback: request headers, request body, response headers, response body; that of a
/// body's last callback is 0. Logs the size of each body callback, and adds `x-seen` to each response.
const HOLDS: &str = r#"
    (global $results (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
        (global.set $results (i32.load (i32.const 0))) i32.const 1)
    (func $result (param $place i32) (result i32)
        (i32.sub (i32.load8_u (i32.add (global.get $results) (local.get $place))) (i32.const 48)))
    (func $body (param $place i32) (param $size i32) (param $is_last i32) (result i32)
        (i32.store8 (i32.const 200) (i32.add (i32.const 48) (i32.div_u (local.get $size) (i32.const 100))))
        (i32.store8 (i32.const 201) (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $size) (i32.const 10)) (i32.const 10))))
        (i32.store8 (i32.const 202) (i32.add (i32.const 48) (i32.rem_u (local.get $size) (i32.const 10))))
        (call $log_text (i32.const 200) (i32.const 3))
        (if (result i32) (local.get $is_last) (then (i32.const 0)) (else (call $result (local.get $place)))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $result (i32.const 0)))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (call $body (i32.const 1) (local.get 1) (local.get 2)))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (drop (call $add @response @"x-seen" @"1"))
        (call $result (i32.const 2)))
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
        (call $body (i32.const 3) (local.get 1) (local.get 2)))"#;

#[test]
fn a_body_held_beyond_the_buffer_limit() {
    let (most, over, part) = ("a".repeat(100), "a".repeat(101), "a".repeat(60));
    let too_large = r#""reply": {"status": 413, "details": "request_payload_too_large"},
        "downstream": {"status": 413, "body": "Payload Too Large", "headers": {"x-seen": ["1"]}}"#;
    let cases = format!(
        r#"{{"plugin": {{"buffer_limit": 100, "allow_on_headers_stop_iteration": true}}, "cases": [
        {{"name": "as much as the limit", "config": "0101", "request": {{"method": "POST", "body": "{most}"}},
         "upstream": {{"body": "{most}"}}, "answer": {{"body": "{most}"}}, "downstream": {{"status": 200, "body": "{most}"}}}},
        {{"name": "a request with one byte more", "config": "0100", "request": {{"method": "POST", "body": "{over}"}},
         "upstream": {{}}, {too_large}}},
        {{"name": "a request whose second frame is too large", "config": "0100",
         "request": {{"method": "POST", "frames": ["{part}", "{part}", "{part}", ""]}},
         "upstream": {{}}, {too_large}, "logs": [{{"text": "060"}}, {{"text": "120"}}, {{"text": "180", "absent": true}}]}},
        {{"name": "a request without a limit", "config": "0000", "request": {{"method": "POST", "body": "{over}"}},
         "upstream": {{"body": "{over}"}}, "downstream": {{"status": 200}}}},
        {{"name": "a body behind held headers", "config": "3000", "request": {{"method": "POST", "body": "{over}"}}, {too_large}}},
        {{"name": "a body that is not read on", "config": "1200", "request": {{"method": "POST", "frames": ["{over}", "{part}", ""]}},
         "paused": true, "logs": [{{"text": "101"}}, {{"text": "161", "absent": true}}]}},
        {{"name": "a response", "config": "0001", "request": {{}}, "upstream": {{}}, "answer": {{"body": "{over}"}}, "reset": true}},
        {{"name": "a response whose headers are held", "config": "0011", "request": {{}}, "upstream": {{}},
         "answer": {{"body": "{over}"}}, "reply": {{"status": 500, "details": "response_payload_too_large"}},
         "downstream": {{"status": 500, "body": "Internal Server Error", "headers": {{"x-seen": []}}}}}}
        ]}}"#
    );
    check(HOLDS, &cases);
}
