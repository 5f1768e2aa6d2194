//! Compares messages: properties, trailers, frames, and messages that a filter breaks.

use super::check;

/// Adds the property that the configuration names to the response, or the status if it cannot be read.
const ADDS_PROPERTY: &str = r#"
    (global $at (mut i32) (i32.const 0)) (global $length (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
        (global.set $at (i32.load (i32.const 0))) (global.set $length (i32.load (i32.const 4))) i32.const 1)
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (local $status i32)
        (local.set $status (call $property (global.get $at) (global.get $length) @to_result))
        (if (local.get $status) (then
            (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $status)))
            (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 1))))
        (drop (call $add @response @"x-one" @result))
        i32.const 0)"#;

#[test]
fn properties_and_connections() {
    check(ADDS_PROPERTY, PROPERTY_CASES);
}

const PROPERTY_CASES: &str = r#"{"cases": [
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
    {"name": "the URI of a client certificate", "config": "connection\u0000uri_san_peer_certificate", "request": {"tls": true,
     "properties": [{"path": ["connection", "uri_san_peer_certificate"], "text": "spiffe://example/a"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["spiffe://example/a"]}}},
    {"name": "the host name of a client certificate", "config": "connection\u0000dns_san_peer_certificate", "request": {"tls": true,
     "properties": [{"path": ["connection", "dns_san_peer_certificate"], "text": "a.example"}]}, "upstream": {},
     "downstream": {"headers": {"x-one": ["a.example"]}}},
    {"name": "the requested server name", "config": "connection\u0000requested_server_name", "request": {"tls": true,
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
    {"name": "a peer that Envoy takes from a header", "config": "source\u0000address", "request": {"peer": "unknown"}, "upstream": {},
     "downstream": {"headers": {"x-one": ["203.0.113.99:0"]}}},
    {"name": "a Unix socket has no port", "config": "source\u0000port", "request": {"peer": "unix"}, "upstream": {},
     "downstream": {"headers": {"x-one": ["1"]}}},
    {"name": "two kinds of connection and time", "config": "connection\u0000tls_version", "request": {"tls": true}, "upstream": {},
     "downstream": {"headers": {"x-one": ["TLSv1.3"]}},
     "then": [{"after_ms": 20, "request": {"http": "2"}, "upstream": {}, "downstream": {"headers": {"x-one": ["1"]}}}]},
    {"name": "the id of the VM", "config": "plugin_vm_id", "plugin": {"vm_id": "one"}, "request": {}, "upstream": {},
     "downstream": {"headers": {"x-one": ["one"]}}},
    {"name": "a function that is not allowed", "config": "plugin_vm_id", "plugin": {"allowed_capabilities":
     ["proxy_on_configure", "proxy_on_response_headers", "proxy_get_buffer_bytes", "proxy_add_header_map_value"]},
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": [":"]}}},
    {"name": "a callback that is not allowed", "config": "plugin_vm_id", "plugin": {"allowed_capabilities":
     ["proxy_on_configure", "proxy_get_buffer_bytes"]}, "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": []}}}]}"#;

/// Adds a field to the trailers of both messages and replaces each body frame.
const ADDS_TRAILERS_AND_REPLACES_FRAMES: &str = r#"
    (func (export "proxy_on_request_trailers") (param i32 i32) (result i32)
        (drop (call $add @request_trailers @"x-one" @"value")) i32.const 0)
    (func (export "proxy_on_response_trailers") (param i32 i32) (result i32)
        (drop (call $add @response_trailers @"x-one" @"value")) i32.const 0)
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const -1) @"value")) i32.const 0)
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
        (drop (call $set_buffer (i32.const 1) (i32.const 0) (i32.const -1) @"value")) i32.const 0)"#;

#[test]
fn trailers_and_frames() {
    check(ADDS_TRAILERS_AND_REPLACES_FRAMES, TRAILER_AND_FRAME_CASES);
}

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
    {"name": "frames of equal size and a delayed answer", "request": {"method": "POST", "body": "abc", "frame_size": 2},
     "upstream": {"body": "valuevaluevalue"}, "answer": {"body": "def", "frame_size": 3, "delay_ms": 20},
     "downstream": {"body": "valuevalue"}}]}"#;

/// Adds (`a`), replaces (`r`) or removes (`x`) a field of the request (`q`) or response (`p`). The configuration has the
/// message, the action, the length of the name, the name, and the value.
const EDITS_FIELD: &str = r#"
    (global $at (mut i32) (i32.const 0)) (global $end (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
        (global.set $at (i32.load (i32.const 0)))
        (global.set $end (i32.add @result)) i32.const 1)
    (func $edit (param $message i32) (param $map i32) (result i32) (local $action i32) (local $name i32) (local $size i32) (local $value i32)
        (if (i32.ne (i32.load8_u (global.get $at)) (local.get $message)) (then (return (i32.const 0))))
        (local.set $action (i32.load8_u (i32.add (global.get $at) (i32.const 1))))
        (local.set $size (i32.load8_u (i32.add (global.get $at) (i32.const 2))))
        (local.set $name (i32.add (global.get $at) (i32.const 3)))
        (local.set $value (i32.add (local.get $name) (local.get $size)))
        (if (i32.eq (local.get $action) @'a') (then (drop (call $add (local.get $map) (local.get $name) (local.get $size)
            (local.get $value) (i32.sub (global.get $end) (local.get $value))))))
        (if (i32.eq (local.get $action) @'r') (then (drop (call $replace (local.get $map) (local.get $name) (local.get $size)
            (local.get $value) (i32.sub (global.get $end) (local.get $value))))))
        (if (i32.eq (local.get $action) @'x') (then (drop (call $remove (local.get $map) (local.get $name) (local.get $size)))))
        i32.const 0)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $edit @'q' (i32.const 0)))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $edit @'p' (i32.const 2)))"#;

#[test]
fn broken_messages() {
    check(EDITS_FIELD, BROKEN_MESSAGE_CASES);
}

/// The name of a case has the message, the action, the name and the value.
const BROKEN_MESSAGE_CASES: &str = r#"{"cases": [
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
    {"name": "p r :status '99'", "config": "pr\u0007:status99", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"status": 99, "body": "def"}},
    {"name": "p a :status 'x'", "config": "pa\u0007:statusx", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"status": 502, "body": "missing required header: :status"}},
    {"name": "p a x-one 'a\\r\\nx-b: c'", "config": "pa\u0005x-onea\r\nx-b: c", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"headers": {"x-one": ["a"], "x-b": ["c"], "x-in": ["r"]}}},
    {"name": "p a x-one 'a\\nb'", "config": "pa\u0005x-onea\nb", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"headers": {"x-one": ["a"], "b": []}}},
    {"name": "p a x-one over HTTP/2", "config": "pa\u0005x-onea\nb", "request": {"method": "POST", "body": "abc", "http": "2"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}},
    {"name": "p a a:b 'v'", "config": "pa\u0003a:bv", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"headers": {"a": ["b: v"]}}},
    {"name": "p a upgrade 'v'", "config": "pa\u0007upgradev", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"headers": {"upgrade": []}}},
    {"name": "p a :path 'v'", "config": "pa\u0005:pathv", "request": {"method": "POST", "body": "abc", "http": "1.1"}, "answer": {"headers": [["x-in", "r"]], "body": "def"}, "upstream": {}, "downstream": {"headers": {":path": []}}}]}"#;

/// Replies if the response has the field `x-one`. Logs what `on_log` can read: the status, the response code details,
/// and whether there are trailers and headers of the request.
const LOGS_AT_END: &str = r#"
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (if (i32.eqz (call $get @response @"x-one" @to_result)) (then
            (drop (call $reply (i32.const 418) @"value" (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))))
        i32.const 0)
    (func (export "proxy_on_log") (param i32)
        (drop (call $get @response @":status" @to_result)) (call $log_result)
        (drop (call $property @"response\00code_details" @to_result)) (call $log_result)
        (call $log_digit (call $get @request_trailers @"t" @to_result))
        (call $log_digit (call $get @request @":path" @to_result)))"#;

#[test]
fn what_on_log_can_read() {
    check(LOGS_AT_END, LOG_CASES);
}

const LOG_CASES: &str = r#"{"cases": [
    {"name": "a response of the upstream", "request": {"http": "2", "method": "POST", "body": "a", "trailers": [["t", "1"]]}, "upstream": {},
     "logs": [{"text": "200"}, {"text": "via_upstream"}, {"text": "1"}, {"text": "0"}]},
    {"name": "a local response", "request": {}, "upstream": {}, "answer": {"headers": [["x-one", "1"]]}, "downstream": {"status": 418},
     "reply": {"status": 418}, "logs": [{"text": "418"}, {"text": "value"}, {"text": "200", "absent": true}]},
    {"name": "cookies split by HTTP/2", "request": {"http": "2", "headers": [["cookie", "a=1"], ["accept", "x"], ["cookie", "b=2"], ["accept", "y"]]},
     "upstream": {"headers": {"cookie": ["a=1; b=2"], "accept": ["x,y"]}}},
    {"name": "empty lines", "request": {"headers": [["accept", ""], ["accept", "x"], ["origin", "y"], ["origin", ""], ["x", ""], ["x", "z"]]},
     "upstream": {"headers": {"accept": ["x"], "origin": ["y"], "x": ["", "z"]}}},
    {"name": "no body with 204", "request": {}, "upstream": {}, "answer": {"status": 204}, "downstream": {"body": ""}}]}"#;
