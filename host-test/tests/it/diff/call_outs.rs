//! Compares call-outs over HTTP and gRPC.

use super::check;

/// Calls `auth` and replies with the body of its answer, or `value` if there is none. The status is 400 and the number of
/// trailers. Traps on a body of seven bytes.
const CALLS: &str = r#"
    (func $set_result (param $address i32) (param $length i32)
        (i32.store (i32.const 0) (local.get $address)) (i32.store (i32.const 4) (local.get $length)))
    (global $stream (mut i32) (i32.const 0))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
        (global.set $stream (local.get $context))
        (drop (call $call @"auth" @pairs(":method" "GET" ":path" "/" ":authority" "a" "x-one" "value") @"value"
            @pairs("x-one" "value") (i32.const 400) (i32.const 500))) i32.const 1)
    (func (export "proxy_on_http_call_response") (param $context i32) (param $id i32) (param $headers i32) (param $size i32) (param $trailers i32)
        (if (i32.eq (local.get $size) (i32.const 7)) (then unreachable))
        (call $set_result @"value")
        (if (local.get $size)
            (then (drop (call $buffer (i32.const 4) (i32.const 0) (i32.const -1) @to_result))))
        (drop (call $effective (global.get $stream)))
        (drop (call $reply (i32.add (i32.const 400) (local.get $trailers)) @"x-one"
            @result (i32.const 0) (i32.const 0) (i32.const -1))))"#;

#[test]
fn http_calls() {
    check(CALLS, HTTP_CASES);
}

const HTTP_CASES: &str = r#"{"cases": [
    {"name": "answered", "upstreams": {"auth": [{"body": "a", "delay_ms": 20, "trailers": [["t", "1"]]}, {"status": 500, "body": "b"}]},
     "request": {}, "downstream": {"status": 401, "body": "a"},
     "calls": [{"upstream": "auth", "headers": {"x-one": ["value"]}, "body": "value"}],
     "then": [{"request": {}, "downstream": {"status": 400, "body": "b"}}, {"request": {}, "downstream": {"body": "b"}}]},
    {"name": "reset, then refused", "upstreams": {"auth": [{"fails": "reset"}, {"fails": "refused"}]},
     "request": {}, "downstream": {"status": 400}, "then": [{"request": {}, "downstream": {"status": 400}}]},
    {"name": "trapped", "upstreams": {"auth": [{"body": "trapped"}]}, "request": {}, "fails": "unreachable", "downstream": {"status": 503}},
    {"name": "refused first", "upstreams": {"auth": [{"fails": "refused"}]}, "request": {}, "downstream": {"status": 400}},
    {"name": "timeout", "upstreams": {"auth": [{"fails": "time-out"}]},
     "request": {}, "held_ms": 400, "downstream": {"status": 400, "body": "upstream request timeout"}}]}"#;

#[test]
fn the_callback_of_a_call_acts_for_the_stream() {
    let audits = r#"
        (func $call_out (param $name i32) (param $length i32)
            (drop (call $call (local.get $name) (local.get $length) @pairs(":method" "GET" ":path" "/" ":authority" "a")
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 500))))
        (global $stream (mut i32) (i32.const 0)) (global $is_audited (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (global.set $stream (local.get 0)) (call $call_out @"auth") i32.const 1)
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
            (drop (call $effective (global.get $stream)))
            (if (global.get $is_audited) (then (drop (call $continue (i32.const 0))) (return)))
            (global.set $is_audited (i32.const 1))
            (call $call_out @"audit") (call $log_text @"audited"))"#;
    let cases = r#"{"upstreams": {"auth": [{}], "audit": [{}]}, "cases": [
        {"name": "n", "request": {}, "upstream": {}, "logs": [{"text": "audited"}],
         "calls": [{"upstream": "auth"}, {"upstream": "audit"}]}]}"#;
    check(audits, cases);
}

/// Makes a gRPC call to `auth`. Replies with the first message and 400, or with the text of the failure and 500 and the
/// gRPC status.
fn grpc_guest(call: &str) -> String {
    format!(
        r#"(func $start_call {call})
        (global $stream (mut i32) (i32.const 0)) (global $replied (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
            (global.set $stream (local.get $context)) (global.set $replied (i32.const 0)) (call $start_call) i32.const 1)
        (func (export "proxy_on_grpc_receive") (param $context i32) (param $id i32) (param $size i32)
            (global.set $replied (i32.const 1))
            (drop (call $buffer (i32.const 5) (i32.const 0) (i32.const -1) @to_result))
            (drop (call $effective (global.get $stream)))
            (drop (call $reply (i32.const 400) @"x-one"
                @result (i32.const 0) (i32.const 0) (i32.const -1))))
        (func (export "proxy_on_grpc_close") (param $context i32) (param $id i32) (param $status i32)
            (if (global.get $replied) (then return))
            (drop (call $status (i32.const 8) @to_result))
            (drop (call $effective (global.get $stream)))
            (drop (call $reply (i32.add (i32.const 500) (local.get $status)) @"x-one"
                @result (i32.const 0) (i32.const 0) (i32.const -1))))"#
    )
}

#[test]
fn grpc_calls() {
    let call = r#"(drop (call $grpc_call @"auth" @"x-one" @"value"
    (i32.const 0) (i32.const 0) @"01234567" (i32.const 400) (i32.const 500)))"#;
    check(&grpc_guest(call), GRPC_CALL_CASES);
}

const GRPC_CALL_CASES: &str = r#"{"cases": [
    {"name": "a message", "upstreams": {"auth": [{"grpc": ["abc"]}]}, "request": {}, "downstream": {"status": 400, "body": "abc"},
     "calls": [{"upstream": "auth", "body": "01234567"}]},
    {"name": "a status", "upstreams": {"auth": [{"grpc": [], "grpc_status": 7, "grpc_message": "no"}]},
     "request": {}, "downstream": {"status": 507, "body": "no{via_upstream}"}},
    {"name": "a status without a message text", "upstreams": {"auth": [{"grpc": [], "grpc_status": 7}]},
     "request": {}, "downstream": {"status": 507, "body": "via_upstream"}},
    {"name": "a message and a status", "upstreams": {"auth": [{"grpc": ["abc"], "grpc_status": 7, "grpc_message": "no"}]},
     "request": {}, "downstream": {"status": 507, "body": "no{via_upstream}"}},
    {"name": "two messages", "upstreams": {"auth": [{"grpc": ["abc", "def"]}]}, "request": {}, "downstream": {"body": "def"}},
    {"name": "success without a message", "upstreams": {"auth": [{"grpc": []}]}, "request": {}, "downstream": {"status": 513}},
    {"name": "refused", "upstreams": {"auth": [{"fails": "refused"}]}, "request": {}, "downstream": {"status": 514}},
    {"name": "reset", "upstreams": {"auth": [{"fails": "reset"}]}, "request": {}, "downstream": {"status": 514}},
    {"name": "timeout", "upstreams": {"auth": [{"fails": "time-out"}]}, "request": {}, "downstream": {"status": 514}}]}"#;

#[test]
fn grpc_streams() {
    let call = r#"(drop (call $grpc_stream @"auth" @"x-one" @"value"
    (i32.const 0) (i32.const 0) (i32.const 500)))
    (drop (call $grpc_send (i32.load (i32.const 500)) @"01234567" (i32.const 0)))"#;
    check(&grpc_guest(call), GRPC_STREAM_CASES);
}

const GRPC_STREAM_CASES: &str = r#"{"cases": [
    {"name": "a message on a stream", "upstreams": {"auth": [{"grpc": ["abc"]}]}, "request": {},
     "downstream": {"status": 400, "body": "abc"}, "calls": [{"upstream": "auth", "body": "01234567"}]},
    {"name": "a status", "upstreams": {"auth": [{"grpc": [], "grpc_status": 7, "grpc_message": "no"}]},
     "request": {}, "downstream": {"status": 507, "body": "no{via_upstream}"}},
    {"name": "success", "upstreams": {"auth": [{"grpc": []}]}, "request": {}, "downstream": {"status": 500, "body": "via_upstream"}},
    {"name": "refused", "upstreams": {"auth": [{"fails": "refused"}]}, "request": {}, "downstream": {"status": 514}},
    {"name": "reset", "upstreams": {"auth": [{"fails": "reset"}]}, "request": {}, "downstream": {"status": 514}}]}"#;

/// Holds the headers of one side, `request` or `response`, until `auth` has answered. Its body callback logs `whole` for five
/// bytes, and holds the body until the end of the stream.
fn holds_headers_then_body(side: &str, number: u32, trailers: &str) -> String {
    format!(
        r#"(global $stream (mut i32) (i32.const 0))
        (func (export "proxy_on_{side}_headers") (param i32 i32 i32) (result i32)
            (global.set $stream (local.get 0))
            (drop (call $call @"auth" @pairs(":method" "GET" ":path" "/" ":authority" "a")
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 500)))
            i32.const 1)
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
            (drop (call $effective (global.get $stream)))
            (drop (call $continue (i32.const {number}))))
        (func (export "proxy_on_{side}_body") (param i32 i32 i32) (result i32)
            (if (i32.eq (local.get 1) (i32.const 5)) (then (call $log_text @"whole")))
            (if (i32.lt_u (local.get 1) (i32.const 5)) (then (call $log_text @"partial")))
            (i32.eqz (local.get 2)))
        {trailers}"#
    )
}

const AUTH: &str = r#""upstreams": {"auth": [{"delay_ms": 200}]}"#;

#[test]
fn a_body_held_after_resumed_headers_is_lost_before_trailers() {
    let own_trailers = |side: &str| {
        format!(
            r#"(func (export "proxy_on_{side}_trailers") (param i32 i32) (result i32) (i32.const 0))"#
        )
    };
    let request_cases = format!(
        r#"{{{AUTH}, "cases": [
        {{"name": "HTTP/1", "request": {{"method": "POST", "body": "hello", "trailers": [["t", "1"]]}},
         "upstream": {{"body": "", "trailers": {{"t": ["1"]}}}}}},
        {{"name": "HTTP/2", "request": {{"method": "POST", "http": "2", "body": "hello", "trailers": [["t", "1"]]}},
         "upstream": {{"body": "", "trailers": {{"t": ["1"]}}}}}},
        {{"name": "no trailers", "request": {{"method": "POST", "body": "hello"}}, "upstream": {{"body": "hello"}}}}]}}"#
    );
    let response_cases = format!(
        r#"{{{AUTH}, "cases": [
        {{"name": "trailers", "request": {{}}, "answer": {{"body": "hello", "trailers": [["t", "1"]]}},
         "upstream": {{}}, "downstream": {{"body": "", "trailers": {{"t": ["1"]}}}}}},
        {{"name": "no trailers", "request": {{}}, "answer": {{"body": "hello"}},
         "upstream": {{}}, "downstream": {{"body": "hello"}}}}]}}"#
    );
    for (side, number, cases) in [
        ("request", 0, request_cases),
        ("response", 1, response_cases),
    ] {
        check(&holds_headers_then_body(side, number, ""), &cases);
        let guest = holds_headers_then_body(side, number, &own_trailers(side));
        check(&guest, &cases);
    }
}

#[test]
fn frames_that_arrive_while_headers_are_paused_come_as_one() {
    let logs = r#""logs": [{"text": "whole"}, {"text": "partial", "absent": true}]"#;
    let request_cases = format!(
        r#"{{{AUTH}, "cases": [
        {{"name": "frames", "request": {{"method": "POST", "frames": ["he", "llo", ""]}},
         "upstream": {{"body": "hello"}}, {logs}}}]}}"#
    );
    let response_cases = format!(
        r#"{{{AUTH}, "cases": [
        {{"name": "frames", "request": {{}}, "answer": {{"frames": ["he", "llo", ""]}},
         "upstream": {{}}, "downstream": {{"body": "hello"}}, {logs}}}]}}"#
    );
    check(&holds_headers_then_body("request", 0, ""), &request_cases);
    check(&holds_headers_then_body("response", 1, ""), &response_cases);
}
