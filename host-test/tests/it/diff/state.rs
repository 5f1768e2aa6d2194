//! Compares foreign functions and filter state.

use super::check;

/// The configuration has the name of a foreign function and its arguments, each after its length, and the path of a
/// property. Sets the property `x-one`. Adds the status of the function, and status and value of the property.
const CALLS_FUNCTION_AND_READS_PROPERTY: &str = r#"
    (global $at (mut i32) (i32.const 0)) (global $end (mut i32) (i32.const 0))
    (global $path (mut i32) (i32.const 0)) (global $status (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
        (global.set $at (i32.load (i32.const 0)))
        (global.set $end (i32.add @result)) i32.const 1)
    (func $add_status (param $status i32)
        (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $status)))
        (drop (call $add @response @"x-one" (i32.const 8) (i32.const 1))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $name i32) (local $rest i32)
        (local.set $name (i32.load8_u (global.get $at)))
        (local.set $rest (i32.add (i32.add (global.get $at) (i32.const 1)) (local.get $name)))
        (global.set $path (i32.add (i32.add (local.get $rest) (i32.const 1)) (i32.load8_u (local.get $rest))))
        (global.set $status (call $foreign (i32.add (global.get $at) (i32.const 1)) (local.get $name)
            (i32.add (local.get $rest) (i32.const 1)) (i32.load8_u (local.get $rest)) (i32.const 0) (i32.const 0)))
        (drop (call $set_property @"x-one" @"value"))
        i32.const 0)
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (call $add_status (global.get $status))
        (call $add_status (call $property (global.get $path) (i32.sub (global.get $end) (global.get $path)) (i32.const 128) (i32.const 132)))
        (drop (call $add @response @"x-one" (i32.load (i32.const 128)) (i32.load (i32.const 132))))
        i32.const 0)"#;

#[test]
fn foreign_functions_and_filter_state() {
    check(CALLS_FUNCTION_AND_READS_PROPERTY, STATE_CASES);
}

const STATE_CASES: &str = r#"{"cases": [
    {"name": "an unknown function", "config": "\u0004nope\u0000x-one",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["1", "0", "value"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "a property by its key", "config": "\u0011clear_route_cache\u0000filter_state\u0000wasm.x-one",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["0", "0", "value"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "a property that is a group", "config": "\bcompress\u0003abcrequest",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["0", "3", ""]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "invalid compressed data", "config": "\nuncompress\u0003abcconnection\u0000mtls",
     "request": {}, "upstream": {}, "downstream": {"headers": {"x-one": ["3", "0", "\u0000"]}}, "filter_state": {"wasm.x-one": "value"}},
    {"name": "an invalid message", "config": "\u0016set_envoy_filter_state\u0001\u0007x-one",
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

/// Declares `x-one` twice as a property that can be set once. Reads it and sets it twice. Adds all statuses.
const DECLARES_PROPERTY: &str = r#"
    (global $configured (mut i32) (i32.const 0)) (global $count (mut i32) (i32.const 0))
    (func $note (param $status i32)
        (i32.store8 (i32.add (i32.const 740) (global.get $count)) (i32.add (i32.const 48) (local.get $status)))
        (global.set $count (i32.add (global.get $count) (i32.const 1))))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (call $note (call $foreign @"declare_property" @"\0a\05x-one\10\01" (i32.const 0) (i32.const 0)))
        (call $note (call $foreign @"declare_property" @"\0a\05x-one\10\01" (i32.const 0) (i32.const 0)))
        (global.set $configured (global.get $count)) i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (global.set $count (global.get $configured))
        (call $note (call $property @"x-one" @to_result))
        (call $note (call $set_property @"x-one" @"value"))
        (call $note (call $set_property @"x-one" @"value"))
        (drop (call $add @request @"x-one" (i32.const 740) (global.get $count))) i32.const 0)"#;

#[test]
fn a_property_that_can_be_set_once() {
    let cases = r#"{"cases": [{"name": "n", "request": {}, "upstream": {"headers": {"x-one": ["02102"]}},
        "filter_state": {"wasm.x-one": "value"}}]}"#;
    check(DECLARES_PROPERTY, cases);
}

#[test]
fn a_property_that_two_filters_declare() {
    let cases = r#"{"chain": [{"plugin": {"vm_id": "b"}}], "cases": [
        {"name": "n", "request": {}, "upstream": {"headers": {"x-one": ["02102", "02022"]}},
        "filter_state": {"wasm.x-one": "value", "wasm.absent": null}}]}"#;
    check(DECLARES_PROPERTY, cases);
}

/// Adds a line to the headers of both messages in each callback, and logs the callback's letter and both statuses. The
/// configuration is the letter of the callback of headers that holds them: `H` or `R`; or `c`, which replies there.
const WRITES_LATE: &str = r#"
    (global $holds (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
        (global.set $holds (i32.load8_u (i32.load (i32.const 0)))) i32.const 1)
    (func $write (param $callback i32) (result i32)
        (i32.store8 (i32.const 200) (local.get $callback))
        (i32.store8 (i32.const 201) (i32.add (i32.const 48) (call $remove @request @"x-gone")))
        (i32.store8 (i32.const 202) (i32.add (i32.const 48) (call $remove @response @"x-gone")))
        (call $log_text (i32.const 200) (i32.const 3))
        (i32.eq (global.get $holds) (local.get $callback)))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (i32.eq (global.get $holds) @'c') (then
            (drop (call $reply (i32.const 418) @"x-one" @"value" (i32.const 0) (i32.const 0) (i32.const -1)))))
        (call $write @'H'))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $write @'B'))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $write @'R'))
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (call $write @'S'))"#;

#[test]
fn headers_that_a_callback_held_can_be_written_until_the_end() {
    let cases = r#"{"plugin": {"allow_on_headers_stop_iteration": true}, "cases": [
        {"name": "none", "config": "-", "request": {"method": "POST", "body": "abc"}, "upstream": {}, "answer": {"body": "def"},
         "downstream": {"status": 200}, "logs": [{"text": "H02"}, {"text": "B22"}, {"text": "R20"}, {"text": "S22"}]},
        {"name": "the request's", "config": "H", "request": {"method": "POST", "body": "abc"}, "upstream": {}, "answer": {"body": "def"},
         "downstream": {"status": 200}, "logs": [{"text": "H02"}, {"text": "B02"}, {"text": "R00"}, {"text": "S02"}]},
        {"name": "the response's", "config": "R", "request": {"method": "POST", "body": "abc"}, "upstream": {}, "answer": {"body": "def"},
         "downstream": {"status": 200}, "logs": [{"text": "H02"}, {"text": "B22"}, {"text": "R20"}, {"text": "S20"}]},
        {"name": "those of a request that was replied to", "config": "c", "request": {},
         "downstream": {"status": 418}, "logs": [{"text": "H02"}, {"text": "R00"}, {"text": "S02"}]}]}"#;
    check(WRITES_LATE, cases);
}
