//! Does every kind of case play in real Envoy, and end there as here?
//!
//! Where `FLUXLIT_TEST_ENVOY` names an Envoy, each row is a filter and cases of one kind, played by the command `diff`.
//! Without one, what needs no Envoy is tried: that a case that cannot be played says why.

use crate::cli::{host_test, write};
use crate::guest;

/// Adds the property that the configuration names, or the status in place of it, to the response.
const TELL: &str = r#"
    (global $at (mut i32) (i32.const 0)) (global $length (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
        (global.set $at (i32.load (i32.const 0))) (global.set $length (i32.load (i32.const 4))) i32.const 1)
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (local $status i32)
        (local.set $status (call $property (global.get $at) (global.get $length) (i32.const 0) (i32.const 4)))
        (if (local.get $status) (then
            (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $status)))
            (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 1))))
        (drop (call $add (i32.const 2) (i32.const 16) (i32.const 5) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
        i32.const 0)"#;

const TELL_CASES: &str = r#"{"cases": [
    {"name": "TLS", "config": "connection\u0000tls_version", "request": {"tls": true}, "upstream": {},
     "downstream": {"headers": {"x-one": ["TLSv1.3"]}}},
    {"name": "no TLS", "config": "connection\u0000tls_version", "request": {}, "upstream": {},
     "downstream": {"headers": {"x-one": ["1"]}}},
    {"name": "HTTP/2", "config": "request\u0000protocol", "request": {"http": "2", "method": "POST", "body": "abc"},
     "upstream": {"body": "abc"}, "answer": {"body": "def"}, "downstream": {"body": "def", "headers": {"x-one": ["HTTP/2"]}}},
    {"name": "HTTP/2 over TLS", "config": "request\u0000protocol", "request": {"http": "2", "tls": true}, "upstream": {},
     "downstream": {"headers": {"x-one": ["HTTP/2"]}}},
    {"name": "HTTP/1.0", "config": "request\u0000protocol", "request": {"http": "1.0"}, "upstream": {},
     "downstream": {"headers": {"x-one": ["HTTP/1.0"]}}},
    {"name": "a client's URI", "config": "connection\u0000uri_san_peer_certificate", "request": {"tls": true,
     "properties": [{"path": ["connection", "uri_san_peer_certificate"], "text": "spiffe://example/a"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["spiffe://example/a"]}}},
    {"name": "a client's host name", "config": "connection\u0000dns_san_peer_certificate", "request": {"tls": true,
     "properties": [{"path": ["connection", "dns_san_peer_certificate"], "text": "a.example"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["a.example"]}}},
    {"name": "the server's name", "config": "connection\u0000requested_server_name", "request": {"tls": true,
     "properties": [{"path": ["connection", "requested_server_name"], "text": "b.example"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["b.example"]}}},
    {"name": "filter state", "config": "filter_state\u0000a.b", "request":
     {"properties": [{"path": ["filter_state", "a.b"], "text": "50 %"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["50 %"]}}},
    {"name": "metadata", "config": "metadata\u0000filter_metadata\u0000a.b\u0000c", "request":
     {"properties": [{"path": ["metadata", "filter_metadata", "a.b", "c"], "text": "d"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["d"]}}},
    {"name": "route metadata", "config": "xds\u0000route_metadata\u0000filter_metadata\u0000a.b\u0000c", "request":
     {"properties": [{"path": ["xds", "route_metadata", "filter_metadata", "a.b", "c"], "text": "d"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["d"]}}},
    {"name": "listener metadata", "config": "xds\u0000listener_metadata\u0000filter_metadata\u0000a.b\u0000c", "request":
     {"properties": [{"path": ["xds", "listener_metadata", "filter_metadata", "a.b", "c"], "text": "d"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["d"]}}},
    {"name": "the route's name", "config": "xds\u0000route_name", "request":
     {"properties": [{"path": ["xds", "route_name"], "text": "r"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["r"]}}},
    {"name": "the virtual host's name", "config": "xds\u0000virtual_host_name", "request":
     {"properties": [{"path": ["xds", "virtual_host_name"], "text": "v"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["v"]}}},
    {"name": "an address that is no peer's", "config": "source\u0000address", "request": {"peer": "unknown"}, "upstream": {},
     "downstream": {"headers": {"x-one": ["203.0.113.99:0"]}}},
    {"name": "a Unix socket has no port", "config": "source\u0000port", "request": {"peer": "unix"}, "upstream": {},
     "downstream": {"headers": {"x-one": ["1"]}}},
    {"name": "two kinds of request, and time", "config": "connection\u0000tls_version", "request": {"tls": true}, "upstream": {},
     "downstream": {"headers": {"x-one": ["TLSv1.3"]}},
     "then": [{"after_ms": 20, "request": {"http": "2"}, "upstream": {}, "downstream": {"headers": {"x-one": ["1"]}}}]},
    {"name": "an id of a VM", "config": "plugin_vm_id", "plugin": {"vm_id": "one"}, "request": {}, "upstream": {},
     "downstream": {"headers": {"x-one": ["one"]}}},
    {"name": "a function that the plugin may not use", "config": "plugin_vm_id", "plugin": {"allowed_capabilities":
     ["proxy_on_configure", "proxy_on_response_headers", "proxy_get_buffer_bytes", "proxy_add_header_map_value"]},
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": [":"]}}},
    {"name": "a callback that the plugin may not have", "config": "plugin_vm_id", "plugin": {"allowed_capabilities":
     ["proxy_on_configure", "proxy_get_buffer_bytes"]}, "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": []}}}]}"#;

/// Adds a line to the trailers of both sides, and writes over each frame.
const TRAILERS_AND_FRAMES: &str = r#"
    (func (export "proxy_on_request_trailers") (param i32 i32) (result i32)
        (drop (call $add (i32.const 1) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5))) i32.const 0)
    (func (export "proxy_on_response_trailers") (param i32 i32) (result i32)
        (drop (call $add (i32.const 3) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5))) i32.const 0)
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 32) (i32.const 5))) i32.const 0)
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
        (drop (call $set_buffer (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 32) (i32.const 5))) i32.const 0)"#;

const TRAILER_AND_FRAME_CASES: &str = r#"{"cases": [
    {"name": "trailers in HTTP/1", "request": {"method": "POST", "body": "abc", "trailers": [["t", "1"], ["t", "2"]]},
     "upstream": {"body": "value", "trailers": {"t": ["1", "2"], "x-one": ["value"]}},
     "answer": {"body": "def", "trailers": [["u", "1"]]},
     "downstream": {"body": "value", "trailers": {"u": ["1"], "x-one": ["value"]}}},
    {"name": "trailers in HTTP/2", "request": {"http": "2", "method": "POST", "body": "abc", "trailers": [["t", "1"]]},
     "upstream": {"body": "value", "trailers": {"t": ["1"], "x-one": ["value"]}},
     "answer": {"body": "def", "trailers": [["u", "1"]]},
     "downstream": {"body": "value", "trailers": {"u": ["1"], "x-one": ["value"]}}},
    {"name": "frames in HTTP/1", "request": {"method": "POST", "frames": ["a", "bc", ""]},
     "upstream": {"body": "valuevaluevalue"}, "answer": {"frames": ["d", "ef"]}, "downstream": {"body": "valuevalue"}},
    {"name": "frames in HTTP/2", "request": {"http": "2", "method": "POST", "frames": ["a", "bc", "d"]},
     "upstream": {"body": "valuevaluevalue"}, "answer": {"frames": ["d", ""]}, "downstream": {"body": "valuevalue"}},
    {"name": "frames over TLS", "request": {"tls": true, "method": "POST", "frames": ["a", "bc", ""]},
     "upstream": {"body": "valuevaluevalue"}, "downstream": {}},
    {"name": "frames of a size, and a late answer", "request": {"method": "POST", "body": "abc", "frame_size": 2},
     "upstream": {"body": "valuevaluevalue"}, "answer": {"body": "def", "frame_size": 3, "delay_ms": 20},
     "downstream": {"body": "valuevalue"}}]}"#;

/// Asks `auth`, and answers with its body.
const ASK: &str = r#"
    (data (i32.const 300) "auth")
    (data (i32.const 320) "\04\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00\05\00\00\00\05\00\00\00:method\00GET\00:path\00/\00:authority\00a\00x-one\00value\00")
    (data (i32.const 450) "\01\00\00\00\05\00\00\00\05\00\00\00x-one\00value\00")
    (global $stream (mut i32) (i32.const 0))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
        (global.set $stream (local.get $context))
        (drop (call $call (i32.const 300) (i32.const 4) (i32.const 320) (i32.const 81) (i32.const 32) (i32.const 5)
            (i32.const 450) (i32.const 24) (i32.const 400) (i32.const 500))) i32.const 1)
    (func (export "proxy_on_http_call_response") (param $context i32) (param $id i32) (param $headers i32) (param $size i32) (param $trailers i32)
        (if (i32.eq (local.get $size) (i32.const 7)) (then unreachable))
        (i32.store (i32.const 0) (i32.const 32)) (i32.store (i32.const 4) (i32.const 5))
        (if (local.get $size)
            (then (drop (call $buffer (i32.const 4) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))))
        (drop (call $effective (global.get $stream)))
        (drop (call $reply (i32.add (i32.const 400) (local.get $trailers)) (i32.const 16) (i32.const 5)
            (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 0) (i32.const 0) (i32.const -1))))"#;

const ASK_CASES: &str = r#"{"cases": [
    {"name": "answered", "upstreams": {"auth": [{"body": "a", "delay_ms": 20, "trailers": [["t", "1"]]}, {"status": 500, "body": "b"}]},
     "request": {}, "downstream": {"status": 401, "body": "a"},
     "calls": [{"upstream": "auth", "headers": {"x-one": ["value"]}, "body": "value"}],
     "then": [{"request": {}, "downstream": {"status": 400, "body": "b"}}, {"request": {}, "downstream": {"body": "b"}}]},
    {"name": "reset, then refused", "upstreams": {"auth": [{"fails": "reset"}, {"fails": "refused"}]},
     "request": {}, "downstream": {"status": 400}, "then": [{"request": {}, "downstream": {"status": 400}}]},
    {"name": "trapped", "upstreams": {"auth": [{"body": "trapped"}]}, "request": {}, "fails": "unreachable", "downstream": {"status": 503}},
    {"name": "refused at once", "upstreams": {"auth": [{"fails": "refused"}]}, "request": {}, "downstream": {"status": 400}},
    {"name": "not in time", "upstreams": {"auth": [{"fails": "time-out"}]},
     "request": {}, "downstream": {"status": 400, "body": "upstream request timeout"}}]}"#;

/// Asks `auth` by gRPC, and answers with the message, or with the text of the failure.
const ASK_GRPC: &str = r#"
    (data (i32.const 300) "auth")
    (global $stream (mut i32) (i32.const 0)) (global $replied (mut i32) (i32.const 0))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
        (global.set $stream (local.get $context)) (global.set $replied (i32.const 0)) CALL i32.const 1)
    (func (export "proxy_on_grpc_receive") (param $context i32) (param $id i32) (param $size i32)
        (global.set $replied (i32.const 1))
        (drop (call $buffer (i32.const 5) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
        (drop (call $effective (global.get $stream)))
        (drop (call $reply (i32.const 400) (i32.const 16) (i32.const 5)
            (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 0) (i32.const 0) (i32.const -1))))
    (func (export "proxy_on_grpc_close") (param $context i32) (param $id i32) (param $status i32)
        (if (global.get $replied) (then return))
        (drop (call $status (i32.const 8) (i32.const 0) (i32.const 4)))
        (drop (call $effective (global.get $stream)))
        (drop (call $reply (i32.add (i32.const 500) (local.get $status)) (i32.const 16) (i32.const 5)
            (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 0) (i32.const 0) (i32.const -1))))"#;

const GRPC_CALL: &str = r#"(drop (call $grpc_call (i32.const 300) (i32.const 4) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)
    (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 8) (i32.const 400) (i32.const 500)))"#;

const GRPC_CALL_CASES: &str = r#"{"cases": [
    {"name": "a message", "upstreams": {"auth": [{"grpc": ["abc"]}]}, "request": {}, "downstream": {"status": 400, "body": "abc"},
     "calls": [{"upstream": "auth", "body": "01234567"}]},
    {"name": "a status", "upstreams": {"auth": [{"grpc": [], "grpc_status": 7, "grpc_message": "no"}]},
     "request": {}, "downstream": {"status": 507, "body": "no{via_upstream}"}},
    {"name": "a status without a text", "upstreams": {"auth": [{"grpc": [], "grpc_status": 7}]},
     "request": {}, "downstream": {"status": 507, "body": "via_upstream"}},
    {"name": "a message and a status", "upstreams": {"auth": [{"grpc": ["abc"], "grpc_status": 7, "grpc_message": "no"}]},
     "request": {}, "downstream": {"status": 507, "body": "no{via_upstream}"}},
    {"name": "two messages", "upstreams": {"auth": [{"grpc": ["abc", "def"]}]}, "request": {}, "downstream": {"body": "def"}},
    {"name": "nothing but success", "upstreams": {"auth": [{"grpc": []}]}, "request": {}, "downstream": {"status": 513}},
    {"name": "refused", "upstreams": {"auth": [{"fails": "refused"}]}, "request": {}, "downstream": {"status": 514}},
    {"name": "reset", "upstreams": {"auth": [{"fails": "reset"}]}, "request": {}, "downstream": {"status": 514}},
    {"name": "not in time", "upstreams": {"auth": [{"fails": "time-out"}]}, "request": {}, "downstream": {"status": 514}}]}"#;

const GRPC_STREAM: &str = r#"(drop (call $grpc_stream (i32.const 300) (i32.const 4) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)
    (i32.const 0) (i32.const 0) (i32.const 500)))
    (drop (call $grpc_send (i32.load (i32.const 500)) (i32.const 64) (i32.const 8) (i32.const 0)))"#;

const GRPC_STREAM_CASES: &str = r#"{"cases": [
    {"name": "a message on a stream", "upstreams": {"auth": [{"grpc": ["abc"]}]}, "request": {},
     "downstream": {"status": 400, "body": "abc"}, "calls": [{"upstream": "auth", "body": "01234567"}]},
    {"name": "a status", "upstreams": {"auth": [{"grpc": [], "grpc_status": 7, "grpc_message": "no"}]},
     "request": {}, "downstream": {"status": 507, "body": "no{via_upstream}"}},
    {"name": "success", "upstreams": {"auth": [{"grpc": []}]}, "request": {}, "downstream": {"status": 500, "body": "via_upstream"}},
    {"name": "refused", "upstreams": {"auth": [{"fails": "refused"}]}, "request": {}, "downstream": {"status": 514}},
    {"name": "reset", "upstreams": {"auth": [{"fails": "reset"}]}, "request": {}, "downstream": {"status": 514}}]}"#;

/// Adds the shared value of `x-one` to the request, and puts another one in its place.
const SHARED: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $data (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4) (i32.const 8)))
        (drop (call $add (i32.const 0) (i32.const 16) (i32.const 5) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
        (drop (call $set_data (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5) (i32.const 0))) i32.const 0)"#;

const SHARED_CASES: &str = r#"{"cases": [
    {"name": "shared data", "shared_data": {"x-one": "a", "other": "b"}, "request": {}, "upstream": {"headers": {"x-one": ["a"]}},
     "then": [{"request": {}, "upstream": {"headers": {"x-one": ["value"]}}}]},
    {"name": "of an id", "plugin": {"vm_id": "one"}, "shared_data": {"x-one": "a"},
     "request": {}, "upstream": {"headers": {"x-one": ["a"]}}}]}"#;

/// Adds `x-one` to the request.
const ADD: &str = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $add (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5))) i32.const 0)"#;

/// Beside the tested filter lies `other.wasm`, which removes the field of the second to last.
const CHAIN_CASES: &str = r#"{"chain": [{"plugin": {"name": "same"}}, {"module": "other.wasm"}], "cases": [
    {"name": "a chain", "request": {}, "upstream": {"headers": {"x-one": ["other"]}}}]}"#;

const OTHER: &str = r#"(data (i32.const 700) "other")
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $replace (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 700) (i32.const 5))) i32.const 0)"#;

/// Adds how often its VM and its plugins in that VM were started.
const STARTS: &str = r#"
    (global $starts (mut i32) (i32.const 0)) (global $plugins (mut i32) (i32.const 0))
    (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
        (global.set $starts (i32.add (global.get $starts) (i32.const 1))) i32.const 1)
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (global.set $plugins (i32.add (global.get $plugins) (i32.const 1))) i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (i32.store8 (i32.const 8) (i32.add (i32.const 48) (global.get $starts)))
        (i32.store8 (i32.const 9) (i32.add (i32.const 48) (global.get $plugins)))
        (drop (call $add (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 8) (i32.const 2))) i32.const 0)"#;

/// The configuration says what it does: `p` holds the request for ever, `q` the response, `r` resets the stream, `t`
/// traps, `c` is refused.
const END: &str = r#"
    (global $what (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
        (global.set $what (i32.load8_u (i32.load (i32.const 0))))
        (if (i32.eq (global.get $what) (i32.const 99)) (then (call $say (i32.const 48) (i32.const 6))))
        (i32.ne (global.get $what) (i32.const 99)))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (i32.eq (global.get $what) (i32.const 114)) (then (drop (call $close (i32.const 0)))))
        (if (i32.eq (global.get $what) (i32.const 116)) (then unreachable))
        (i32.eq (global.get $what) (i32.const 112)))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (i32.eq (global.get $what) (i32.const 113)))"#;

const END_CASES: &str = r#"{"cases": [
    {"name": "held for ever", "config": "p", "request": {}, "paused": true},
    {"name": "the response held for ever", "config": "q", "request": {}, "upstream": {}, "paused": true},
    {"name": "reset", "config": "r", "request": {}, "reset": true},
    {"name": "trapped", "config": "t", "request": {}, "fails": "unreachable", "downstream": {"status": 503}},
    {"name": "refused", "config": "c", "refused": ["absent"]}]}"#;

/// Answers itself, in the callback that the configuration names: `h` and `b` of the request, `r` and `s` of the
/// response; `2` twice, `e` without a body, `c` when the response has begun.
const REPLY: &str = r#"
    (data (i32.const 600) "why not") (data (i32.const 620) "\02\00\00\00\05\00\00\00\01\00\00\00\05\00\00\00\01\00\00\00x-one\00a\00x-one\00b\00")
    (global $what (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
        (global.set $what (i32.load8_u (i32.load (i32.const 0)))) i32.const 1)
    (func $reply_with (param $size i32) (result i32)
        (drop (call $reply (i32.const 418) (i32.const 600) (i32.const 7) (i32.const 32) (local.get $size)
            (i32.const 620) (i32.const 36) (i32.const -1))) i32.const 1)
    (func $at (param $letter i32) (result i32)
        (if (i32.eq (global.get $what) (local.get $letter)) (then (return (call $reply_with (i32.const 5)))))
        i32.const 0)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (i32.eq (global.get $what) (i32.const 50)) (then (drop (call $reply_with (i32.const 5))) (return (call $reply_with (i32.const 0)))))
        (if (i32.eq (global.get $what) (i32.const 101)) (then (return (call $reply_with (i32.const 0)))))
        (call $at (i32.const 104)))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $at (i32.const 98)))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (if (i32.eq (global.get $what) (i32.const 99)) (then (drop (call $close (i32.const 1)))))
        (call $at (i32.const 114)))
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (call $at (i32.const 115)))"#;

const REPLY_CASES: &str = r#"{"cases": [
    {"name": "to the headers", "config": "h", "request": {"method": "POST", "body": "abc"},
     "downstream": {"status": 418, "body": "value", "headers": {"x-one": ["a", "b"], "content-type": ["text/plain"]}},
     "reply": {"details": "why_not"}},
    {"name": "to HEAD", "config": "h", "request": {"method": "HEAD"}, "downstream": {"status": 418, "body": ""}},
    {"name": "to gRPC", "config": "h", "request": {"http": "2", "headers": [["content-type", "application/grpc"]]},
     "downstream": {"status": 200, "headers": {"grpc-status": ["2"]}}},
    {"name": "without a body", "config": "e", "request": {}, "downstream": {"status": 418, "headers": {"content-type": []}}},
    {"name": "to the body", "config": "b", "request": {"method": "POST", "body": "abc"}, "upstream": {"method": "POST"},
     "downstream": {"status": 418}, "reply": {"status": 418}},
    {"name": "in place of the response", "config": "r", "request": {}, "upstream": {}, "answer": {"headers": [["x", "1"]], "body": "def"},
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

/// Answers, and holds its own answer.
const HOLD: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $reply (i32.const 403) (i32.const 32) (i32.const 5) (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const -1)))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 1)"#;

/// Traps on the field `x-one`.
const TRAP: &str = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (i32.eqz (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4))) (then unreachable)) i32.const 0)"#;

const TRAP_CASES: &str = r#"{"cases": [
    {"name": "closed", "request": {"headers": [["x-one", "1"]]}, "fails": "unreachable", "downstream": {"status": 503},
     "then": [{"request": {}, "fails": "", "downstream": {"status": 503}}]},
    {"name": "open", "plugin": {"failure_policy": "open"}, "request": {"headers": [["x-one", "1"]]}, "fails": "unreachable",
     "downstream": {"status": 503}, "then": [{"request": {}, "upstream": {}}]},
    {"name": "reload", "plugin": {"failure_policy": "reload"}, "request": {"headers": [["x-one", "1"]]}, "fails": "unreachable",
     "downstream": {"status": 503}, "then": [{"after_ms": 1500, "request": {}, "upstream": {}}]}]}"#;

/// The configuration has the name of a foreign function, its arguments, both with their lengths before, and the path of a
/// property. Tells the function's status, and the property's status and value once `x-one` was set.
const STATE: &str = r#"
    (global $at (mut i32) (i32.const 0)) (global $end (mut i32) (i32.const 0))
    (global $path (mut i32) (i32.const 0)) (global $status (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
        (global.set $at (i32.load (i32.const 0)))
        (global.set $end (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 4)))) i32.const 1)
    (func $tell (param $status i32)
        (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $status)))
        (drop (call $add (i32.const 2) (i32.const 16) (i32.const 5) (i32.const 8) (i32.const 1))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $name i32) (local $rest i32)
        (local.set $name (i32.load8_u (global.get $at)))
        (local.set $rest (i32.add (i32.add (global.get $at) (i32.const 1)) (local.get $name)))
        (global.set $path (i32.add (i32.add (local.get $rest) (i32.const 1)) (i32.load8_u (local.get $rest))))
        (global.set $status (call $foreign (i32.add (global.get $at) (i32.const 1)) (local.get $name)
            (i32.add (local.get $rest) (i32.const 1)) (i32.load8_u (local.get $rest)) (i32.const 0) (i32.const 0)))
        (drop (call $set_property (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))
        i32.const 0)
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (call $tell (global.get $status))
        (call $tell (call $property (global.get $path) (i32.sub (global.get $end) (global.get $path)) (i32.const 128) (i32.const 132)))
        (drop (call $add (i32.const 2) (i32.const 16) (i32.const 5) (i32.load (i32.const 128)) (i32.load (i32.const 132))))
        i32.const 0)"#;

const STATE_CASES: &str = r#"{"cases": [
    {"name": "an unknown function", "config": "\u0004nope\u0000x-one",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["1", "0", "value"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "a property by its key", "config": "\u0011clear_route_cache\u0000filter_state\u0000wasm.x-one",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["0", "0", "value"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "a group of values", "config": "\bcompress\u0003abcrequest",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["0", "3", ""]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "nothing to unpack", "config": "\nuncompress\u0003abcconnection\u0000mtls",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["3", "0", "\u0000"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "no message", "config": "\u0016set_envoy_filter_state\u0001\u0007x-one",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["2", "0", "value"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "nope = a", "config": "\u0016set_envoy_filter_state\t\n\u0004nope\u0012\u0001afilter_state\u0000nope",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["1", "1", ""]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "envoy.string = abc", "config": "\u0016set_envoy_filter_state\u0013\n\fenvoy.string\u0012\u0003abcfilter_state\u0000envoy.string",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["0", "0", "abc"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "envoy.bool = yes", "config": "\u0016set_envoy_filter_state\u0011\n\nenvoy.bool\u0012\u0003yesfilter_state\u0000envoy.bool",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["0", "0", "true"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "envoy.bool = maybe", "config": "\u0016set_envoy_filter_state\u0013\n\nenvoy.bool\u0012\u0005maybefilter_state\u0000envoy.bool",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["2", "1", ""]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "envoy.ratelimit.hits_addend =  007", "config": "\u0016set_envoy_filter_state#\n\u001benvoy.ratelimit.hits_addend\u0012\u0004 007filter_state\u0000envoy.ratelimit.hits_addend",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["0", "0", "7"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "envoy.ratelimit.hits_addend = -1", "config": "\u0016set_envoy_filter_state!\n\u001benvoy.ratelimit.hits_addend\u0012\u0002-1filter_state\u0000envoy.ratelimit.hits_addend",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["2", "1", ""]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "envoy.network.ip = ::1", "config": "\u0016set_envoy_filter_state\u0017\n\u0010envoy.network.ip\u0012\u0003::1filter_state\u0000envoy.network.ip",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["0", "0", "[::1]:0"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "envoy.network.application_protocols = a,b", "config": "\u0016set_envoy_filter_state*\n#envoy.network.application_protocols\u0012\u0003a,bfilter_state\u0000envoy.network.application_protocols",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["0", "1", ""]}}, "filter_state": {"wasm.x-one": "value"}}]}"#;

/// Declares `x-one` as what can be set once, twice; tells whether it is there, sets it twice; tells all statuses.
const DECLARE: &str = r#"
    (data (i32.const 700) "declare_property") (data (i32.const 720) "\0a\05x-one\10\01")
    (global $configured (mut i32) (i32.const 0)) (global $count (mut i32) (i32.const 0))
    (func $tell (param $status i32)
        (i32.store8 (i32.add (i32.const 740) (global.get $count)) (i32.add (i32.const 48) (local.get $status)))
        (global.set $count (i32.add (global.get $count) (i32.const 1))))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (call $tell (call $foreign (i32.const 700) (i32.const 16) (i32.const 720) (i32.const 9) (i32.const 0) (i32.const 0)))
        (call $tell (call $foreign (i32.const 700) (i32.const 16) (i32.const 720) (i32.const 9) (i32.const 0) (i32.const 0)))
        (global.set $configured (global.get $count)) i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (global.set $count (global.get $configured))
        (call $tell (call $property (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4)))
        (call $tell (call $set_property (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))
        (call $tell (call $set_property (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))
        (drop (call $add (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 740) (global.get $count))) i32.const 0)"#;

/// Adds (`a`), replaces (`r`) or removes (`x`) a field of the request (`q`) or response (`p`); the configuration has side,
/// what to do, the name with its length, and the value.
const BREAK: &str = r#"
    (global $at (mut i32) (i32.const 0)) (global $end (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
        (global.set $at (i32.load (i32.const 0)))
        (global.set $end (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 4)))) i32.const 1)
    (func $break (param $side i32) (param $map i32) (result i32) (local $what i32) (local $name i32) (local $size i32) (local $value i32)
        (if (i32.ne (i32.load8_u (global.get $at)) (local.get $side)) (then (return (i32.const 0))))
        (local.set $what (i32.load8_u (i32.add (global.get $at) (i32.const 1))))
        (local.set $size (i32.load8_u (i32.add (global.get $at) (i32.const 2))))
        (local.set $name (i32.add (global.get $at) (i32.const 3)))
        (local.set $value (i32.add (local.get $name) (local.get $size)))
        (if (i32.eq (local.get $what) (i32.const 97)) (then (drop (call $add (local.get $map) (local.get $name) (local.get $size)
            (local.get $value) (i32.sub (global.get $end) (local.get $value))))))
        (if (i32.eq (local.get $what) (i32.const 114)) (then (drop (call $replace (local.get $map) (local.get $name) (local.get $size)
            (local.get $value) (i32.sub (global.get $end) (local.get $value))))))
        (if (i32.eq (local.get $what) (i32.const 120)) (then (drop (call $remove (local.get $map) (local.get $name) (local.get $size)))))
        i32.const 0)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $break (i32.const 113) (i32.const 0)))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $break (i32.const 112) (i32.const 2)))"#;

const BREAK_CASES: &str = r#"{"cases": [
    {"name": "q x :path ''", "config": "qx\u0005:path", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "downstream": {"status": 404, "body": ""}},
    {"name": "q r :path ''", "config": "qr\u0005:path", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "downstream": {"status": 404, "body": ""}},
    {"name": "q x :method ''", "config": "qx\u0007:method", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "downstream": {"status": 503, "body": "missing required header: :method"}},
    {"name": "q a :path 'x'", "config": "qa\u0005:pathx", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {"target": "/,x"}},
    {"name": "q a host 'x'", "config": "qa\u0004hostx", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {"host": "app.example,x"}},
    {"name": "q a x-one 'a\\r\\nx-b: c'", "config": "qa\u0005x-onea\r\nx-b: c", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "downstream": {"status": 503, "body": "invalid header value for: x-one"}},
    {"name": "q a x-one '\\x7f'", "config": "qa\u0005x-one\u007f", "request": {"method": "POST", "body": "abc", "http": "2"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "downstream": {"status": 503, "body": "invalid header value for: x-one"}},
    {"name": "q a x-one ' a\\tb '", "config": "qa\u0005x-one a\tb ", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {"headers": {"x-one": ["a\tb"]}}},
    {"name": "q a a b 'v'", "config": "qa\u0003a bv", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "downstream": {"status": 503, "body": "invalid header name: a b"}},
    {"name": "q a x\r\nb 'v'", "config": "qa\u0004x\r\nbv", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "downstream": {"status": 503, "body": "invalid header name: x\\r\\nb"}},
    {"name": "q a :new 'v'", "config": "qa\u0004:newv", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}},
    {"name": "p x :status ''", "config": "px\u0007:status", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"status": 502, "body": "missing required header: :status"}},
    {"name": "p a :status 'x'", "config": "pa\u0007:statusx", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"status": 502, "body": "missing required header: :status"}},
    {"name": "p a x-one 'a\\r\\nx-b: c'", "config": "pa\u0005x-onea\r\nx-b: c", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"headers": {"x-one": ["a"], "x-b": ["c"], "x-in": ["r"]}}},
    {"name": "p a x-one 'a\\nb'", "config": "pa\u0005x-onea\nb", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"headers": {"x-one": ["a"], "b": []}}},
    {"name": "p a x-one over HTTP/2", "config": "pa\u0005x-onea\nb", "request": {"method": "POST", "body": "abc", "http": "2"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}},
    {"name": "p a a:b 'v'", "config": "pa\u0003a:bv", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"headers": {"a": ["b: v"]}}},
    {"name": "p a upgrade 'v'", "config": "pa\u0007upgradev", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"headers": {"upgrade": []}}},
    {"name": "p a :path 'v'", "config": "pa\u0005:pathv", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"headers": {":path": []}}}]}"#;

/// Answers in the response if it has the field `x-one`; logs what `on_log` finds: the status, the details, and whether the
/// request's trailers and headers are there.
const LATE: &str = r#"
    (data (i32.const 700) ":status") (data (i32.const 710) "response\00code_details") (data (i32.const 740) "t") (data (i32.const 750) ":path")
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (if (i32.eqz (call $get (i32.const 2) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4))) (then
            (drop (call $reply (i32.const 418) (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))))
        i32.const 0)
    (func (export "proxy_on_log") (param i32)
        (drop (call $get (i32.const 2) (i32.const 700) (i32.const 7) (i32.const 0) (i32.const 4))) (call $say_result)
        (drop (call $property (i32.const 710) (i32.const 21) (i32.const 0) (i32.const 4))) (call $say_result)
        (call $report (call $get (i32.const 1) (i32.const 740) (i32.const 1) (i32.const 0) (i32.const 4)))
        (call $report (call $get (i32.const 0) (i32.const 750) (i32.const 5) (i32.const 0) (i32.const 4))))"#;

const LATE_CASES: &str = r#"{"cases": [
    {"name": "the upstream's", "request": {"http": "2", "method": "POST", "body": "a", "trailers": [["t", "1"]]}, "upstream": {},
     "logs": [{"text": "200"}, {"text": "via_upstream"}, {"text": "1"}, {"text": "0"}]},
    {"name": "the filter's own", "request": {}, "upstream": {}, "answer": {"headers": [["x-one", "1"]]}, "downstream": {"status": 418},
     "reply": {"status": 418}, "logs": [{"text": "418"}, {"text": "value"}, {"text": "200", "absent": true}]},
    {"name": "cookies that HTTP/2 cut apart", "request": {"http": "2", "headers": [["cookie", "a=1"], ["accept", "x"], ["cookie", "b=2"], ["accept", "y"]]},
     "upstream": {"headers": {"cookie": ["a=1; b=2"], "accept": ["x,y"]}}},
    {"name": "empty lines", "request": {"headers": [["accept", ""], ["accept", "x"], ["origin", "y"], ["origin", ""], ["x", ""], ["x", "z"]]},
     "upstream": {"headers": {"accept": ["x"], "origin": ["y"], "x": ["", "z"]}}},
    {"name": "no body with 204", "request": {}, "upstream": {}, "answer": {"status": 204}, "downstream": {"body": ""}}]}"#;

/// Counts and logs: once at each start, for each request, and when a stream is over.
const COUNT: &str = r#"
    (data (i32.const 700) "starts") (data (i32.const 710) "requests") (data (i32.const 720) "open") (data (i32.const 730) "level")
    (data (i32.const 740) "sizes") (data (i32.const 750) "two\nlines") (data (i32.const 760) "over") (data (i32.const 770) "started")
    (global $requests (mut i32) (i32.const 0)) (global $open (mut i32) (i32.const 0))
    (global $level (mut i32) (i32.const 0)) (global $sizes (mut i32) (i32.const 0))
    (func $defined (param $kind i32) (param $at i32) (param $length i32) (result i32)
        (drop (call $define (local.get $kind) (local.get $at) (local.get $length) (i32.const 0))) (i32.load (i32.const 0)))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $increment (call $defined (i32.const 0) (i32.const 700) (i32.const 6)) (i64.const 1)))
        (global.set $requests (call $defined (i32.const 0) (i32.const 710) (i32.const 8)))
        (global.set $open (call $defined (i32.const 1) (i32.const 720) (i32.const 4)))
        (global.set $level (call $defined (i32.const 1) (i32.const 730) (i32.const 5)))
        (global.set $sizes (call $defined (i32.const 2) (i32.const 740) (i32.const 5)))
        (drop (call $log (i32.const 2) (i32.const 770) (i32.const 7))) i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $increment (global.get $requests) (i64.const 2)))
        (drop (call $increment (global.get $open) (i64.const 1)))
        (drop (call $record (global.get $level) (i64.const 5)))
        (drop (call $record (global.get $sizes) (i64.const 7)))
        (drop (call $log (i32.const 3) (i32.const 750) (i32.const 9))) i32.const 0)
    (func (export "proxy_on_log") (param i32)
        (drop (call $increment (global.get $open) (i64.const -1)))
        (drop (call $log (i32.const 0) (i32.const 760) (i32.const 4))))"#;

const COUNT_CASES: &str = r#"{"cases": [
    {"name": "one exchange", "request": {}, "upstream": {}, "logs": [{"level": "warn", "text": "two\nlines"}, {"level": "trace", "text": "over"}],
     "finally": {"metrics": {"requests": 2, "open": 0, "level": 5, "starts": 1}, "logs": [{"text": "started"}]}},
    {"name": "two exchanges", "request": {}, "upstream": {}, "logs": [{"text": "over"}, {"level": "info", "absent": true}],
     "then": [{"request": {}, "upstream": {}, "logs": [{"text": "two", "absent": true}, {"level": "warn"}]}],
     "finally": {"metrics": {"requests": 4, "open": 0}}},
    {"name": "a VM with names", "plugin": {"name": "same", "root_id": "r", "vm_id": "v"}, "request": {}, "upstream": {},
     "logs": [{"level": "warn", "text": "two\nlines"}], "finally": {"metrics": {"requests": 2}}}]}"#;

/// Counts and logs the status of a foreign function, which Envoy has, and which this host has not.
const FOREIGN: &str = r#"
    (data (i32.const 700) "verify_signature") (data (i32.const 720) "statuses")
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $status i32)
        (drop (call $define (i32.const 0) (i32.const 720) (i32.const 8) (i32.const 4)))
        (local.set $status (call $foreign (i32.const 700) (i32.const 16) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)))
        (drop (call $increment (i32.load (i32.const 4)) (i64.extend_i32_u (local.get $status))))
        (call $report (local.get $status))
        i32.const 0)"#;

const FOREIGN_CASES: &str = r#"{"cases": [
    {"name": "a status", "request": {}, "upstream": {}, "logs": [{"text": "1"}], "finally": {"metrics": {"statuses": 1}}}]}"#;

#[test]
fn what_is_counted_and_logged_is_compared() {
    let Ok(envoy) = std::env::var("FLUXLIT_TEST_ENVOY") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let filter = write(folder.path(), "filter.wasm", guest::module(FOREIGN));
    let path = write(folder.path(), "cases.json", FOREIGN_CASES);
    let ran = host_test(&[
        "diff", "--envoy", &envoy, "--filter", &filter, "--cases", &path,
    ]);
    assert_eq!(
        ran.stdout,
        format!(
            "differs  {path}: a status\n         as expected / log: want `1`, having logged `2`\n         \
             metric `statuses`: +1 / +2\n0 the same, 1 differ, 0 skipped (host-test / Envoy)\n"
        )
    );
}

/// Cases of one kind: their name, the filter, the cases.
const KINDS: [(&str, &str, &str); 21] = [
    ("metrics and logs", COUNT, COUNT_CASES),
    ("broken messages", BREAK, BREAK_CASES),
    ("what a log finds", LATE, LATE_CASES),
    ("foreign functions and filter state", STATE, STATE_CASES),
    (
        "a property that can be set once",
        DECLARE,
        r#"{"cases": [{"name": "n", "request": {}, "upstream": {"headers": {"x-one": ["02102"]}}, "filter_state": {"wasm.x-one": "value"}}]}"#,
    ),
    (
        "a property of two filters",
        DECLARE,
        r#"{"chain": [{"plugin": {"vm_id": "b"}}], "cases": [
        {"name": "n", "request": {}, "upstream": {"headers": {"x-one": ["02102", "02022"]}}, "filter_state": {"wasm.x-one": "value", "wasm.absent": null}}]}"#,
    ),
    ("answers", REPLY, REPLY_CASES),
    ("failures", TRAP, TRAP_CASES),
    (
        "an answer that the filter holds itself",
        HOLD,
        r#"{"cases": [{"name": "n", "request": {}, "paused": true, "reply": {"status": 403}}]}"#,
    ),
    ("properties and connections", TELL, TELL_CASES),
    (
        "trailers and frames",
        TRAILERS_AND_FRAMES,
        TRAILER_AND_FRAME_CASES,
    ),
    ("call-outs", ASK, ASK_CASES),
    ("gRPC calls", "", GRPC_CALL_CASES),
    ("gRPC streams", "", GRPC_STREAM_CASES),
    ("shared data", SHARED, SHARED_CASES),
    ("chains", ADD, CHAIN_CASES),
    (
        "one plugin twice",
        STARTS,
        r#"{"config": "a", "chain": [{"config": "a"}], "cases": [
        {"name": "n", "request": {}, "upstream": {"headers": {"x-one": ["11", "11"]}}}]}"#,
    ),
    (
        "two plugins in a VM",
        STARTS,
        r#"{"config": "a", "chain": [{"config": "b"}], "cases": [
        {"name": "n", "request": {}, "upstream": {"headers": {"x-one": ["22", "22"]}}}]}"#,
    ),
    (
        "two VMs of a module",
        STARTS,
        r#"{"config": "a", "chain": [{"config": "b", "plugin": {"vm_config": "b"}}, {"config": "c", "plugin": {"vm_id": "b"}}],
        "cases": [{"name": "n", "request": {}, "upstream": {"headers": {"x-one": ["11", "11", "11"]}}}]}"#,
    ),
    ("endings", END, END_CASES),
    (
        "VMs",
        ADD,
        r#"{"plugin": {"vm_id": "x", "log_level": "warn"}, "cases": [
        {"name": "one", "request": {}, "upstream": {}}, {"name": "two", "request": {}, "upstream": {}}]}"#,
    ),
];

fn guest_of(kind: &str, guest: &str) -> String {
    match kind {
        "gRPC calls" => ASK_GRPC.replace("CALL", GRPC_CALL),
        "gRPC streams" => ASK_GRPC.replace("CALL", GRPC_STREAM),
        _ => guest.to_owned(),
    }
}

#[test]
fn every_kind_is_met_here_and_the_same_in_envoy() {
    let envoy = std::env::var("FLUXLIT_TEST_ENVOY").ok();
    let mut misses = Vec::new();
    for (kind, guest, cases) in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let filter = write(
            folder.path(),
            "filter.wasm",
            guest::module(&guest_of(kind, guest)),
        );
        write(folder.path(), "other.wasm", guest::module(OTHER));
        let path = write(folder.path(), "cases.json", cases);
        let count =
            cases.matches("\"name\": ").count() - cases.matches("{\"name\": \"same\"").count();
        let mut check = |command: &[&str], want: String| {
            let ran = host_test(&[command, &["--filter", &filter, "--cases", &path]].concat());
            if ran.stdout != want {
                misses.push(format!("{kind}: {} {}", ran.stdout, ran.stderr));
            }
        };
        check(&["run"], format!("{count} met, 0 missed, 0 skipped\n"));
        if let Some(envoy) = &envoy {
            let same = format!("{count} the same, 0 differ, 0 skipped (host-test / Envoy)\n");
            check(&["diff", "--envoy", envoy], same);
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

#[test]
fn what_cannot_be_played_says_why() {
    for (case, want) in [
        (
            r#""plugin": {"start_s": 5}, "request": {}"#,
            "Envoy's clock cannot be set",
        ),
        (
            r#""config": "\u00ff", "request": {}"#,
            "the configuration is no UTF-8, as Envoy's own is",
        ),
        (
            r#""finally": {"metrics": {"x": 1}}"#,
            "without a request there is nothing to compare",
        ),
        (
            r#""request": {"frames": ["a", "b"]}"#,
            "in HTTP/1 an empty frame ends a body that comes in frames",
        ),
        (
            r#""request": {"http": "1.0", "trailers": [["t", "1"]]}"#,
            "HTTP/1.0 has neither frames nor trailers",
        ),
        (
            r#""request": {"http": "2", "host": null}"#,
            "the HTTP/2 client cannot send the request: it has no authority",
        ),
        (
            r#""request": {"properties": [{"path": ["request", "id"], "text": "1"}]}"#,
            "Envoy cannot be given the property `request.id` of that type",
        ),
        (
            r#""request": {}, "then": [{"after_ms": 60000, "request": {}}]"#,
            "it would take 60 s of real time",
        ),
        (
            r#""request": {"method": "HEAD"}, "answer": {"body": "a"}"#,
            "no response to HEAD, or of status 204 or 304, has a body",
        ),
        (
            r#""request": {}, "upstreams": {"a": [{"fails": "no-headers"}]}"#,
            "no service can make Envoy give its own call up",
        ),
        (
            r#""request": {}, "upstreams": {"a": [{"fails": "refused"}, {}]}"#,
            "nobody sees a refused call, so that what follows it cannot be given",
        ),
        (
            r#""request": {}, "except": {"envoy": "a reason"}"#,
            "a reason",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let filter = write(folder.path(), "filter.wasm", guest::module(""));
        let text = format!(r#"{{"cases": [{{"name": "n", {case}}}]}}"#);
        let cases = write(folder.path(), "cases.json", text);
        // No Envoy is started when there is nothing to play.
        let ran = host_test(&[
            "diff", "--envoy", "/nowhere", "--filter", &filter, "--cases", &cases,
        ]);
        let want = format!(
            "skipped  {cases}: n: {want}\n0 the same, 0 differ, 1 skipped (host-test / Envoy)\n"
        );
        assert_eq!((ran.stdout, ran.code), (want, Some(0)), "{}", ran.stderr);
    }
}

/// Calls `auth` when it is configured.
const EARLY: &str = r#"
    (data (i32.const 300) "auth")
    (data (i32.const 320) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00a\00")
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $call (i32.const 300) (i32.const 4) (i32.const 320) (i32.const 61) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 400) (i32.const 500))) i32.const 1)"#;

#[test]
fn what_only_envoy_knows_is_skipped_with_its_word() {
    let Ok(envoy) = std::env::var("FLUXLIT_TEST_ENVOY") else {
        return;
    };
    for (guest, case, want) in [
        (
            "",
            r#""request": {"target": "/a#b"}"#,
            "Envoy refuses it before any filter sees it: path_normalization_failed",
        ),
        (
            "",
            r#""request": {"host": null}"#,
            "Envoy refuses it before any filter sees it: missing_host_header",
        ),
        (
            EARLY,
            r#""request": {}, "upstreams": {"auth": [{}]}"#,
            "the filter calls out at its start, which is several starts in Envoy",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let filter = write(folder.path(), "filter.wasm", guest::module(guest));
        let text = format!(r#"{{"cases": [{{"name": "n", {case}}}]}}"#);
        let cases = write(folder.path(), "cases.json", text);
        let ran = host_test(&[
            "diff", "--envoy", &envoy, "--filter", &filter, "--cases", &cases,
        ]);
        let want = format!(
            "skipped  {cases}: n: {want}\n0 the same, 0 differ, 1 skipped (host-test / Envoy)\n"
        );
        assert_eq!((ran.stdout, ran.code), (want, Some(0)), "{}", ran.stderr);
    }
}
