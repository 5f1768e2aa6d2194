//! Compares plugins and VMs: chains, shared data, metrics, logs, failures.

use super::{check, check_with_other};

/// Adds `x-one` to the request.
const ADDS_FIELD: &str = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $add @request @"x-one" @"value")) i32.const 0)"#;

/// The tested filter is followed by itself and by another module.
#[test]
fn chains() {
    let other = r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $replace @request @"x-one" @"other")) i32.const 0)"#;
    let cases = r#"{"chain": [{"plugin": {"name": "same"}}, {"module": "other.wasm"}], "cases": [
        {"name": "a chain", "request": {}, "upstream": {"headers": {"x-one": ["other"]}}}]}"#;
    check_with_other(ADDS_FIELD, other, cases);
}

#[test]
fn cases_with_a_vm_id_and_a_log_level() {
    let cases = r#"{"plugin": {"vm_id": "x", "log_level": "warn"}, "cases": [
        {"name": "one", "request": {}, "upstream": {}}, {"name": "two", "request": {}, "upstream": {}}]}"#;
    check(ADDS_FIELD, cases);
}

/// Adds how often its VM was started, and how many plugins were configured in that VM.
const COUNTS_STARTS: &str = r#"
    (global $starts (mut i32) (i32.const 0)) (global $plugins (mut i32) (i32.const 0))
    (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
        (global.set $starts (i32.add (global.get $starts) (i32.const 1))) i32.const 1)
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (global.set $plugins (i32.add (global.get $plugins) (i32.const 1))) i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (i32.store8 (i32.const 8) (i32.add (i32.const 48) (global.get $starts)))
        (i32.store8 (i32.const 9) (i32.add (i32.const 48) (global.get $plugins)))
        (drop (call $add @request @"x-one" (i32.const 8) (i32.const 2))) i32.const 0)"#;

#[test]
fn one_plugin_twice() {
    let cases = r#"{"config": "a", "chain": [{"config": "a"}], "cases": [
        {"name": "n", "request": {}, "upstream": {"headers": {"x-one": ["11", "11"]}}}]}"#;
    check(COUNTS_STARTS, cases);
}

#[test]
fn two_plugins_in_one_vm() {
    let cases = r#"{"config": "a", "chain": [{"config": "b"}], "cases": [
        {"name": "n", "request": {}, "upstream": {"headers": {"x-one": ["22", "22"]}}}]}"#;
    check(COUNTS_STARTS, cases);
}

#[test]
fn three_vms_of_one_module() {
    let cases = r#"{"config": "a", "chain": [{"config": "b", "plugin": {"vm_config": "b"}}, {"config": "c", "plugin": {"vm_id": "b"}}],
        "cases": [{"name": "n", "request": {}, "upstream": {"headers": {"x-one": ["11", "11", "11"]}}}]}"#;
    check(COUNTS_STARTS, cases);
}

/// Adds the shared value of `x-one` to the request and replaces that value.
const USES_SHARED_DATA: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $data @"x-one" @to_result (i32.const 8)))
        (drop (call $add @request @"x-one" @result))
        (drop (call $set_data @"x-one" @"value" (i32.const 0))) i32.const 0)"#;

#[test]
fn shared_data() {
    check(USES_SHARED_DATA, SHARED_DATA_CASES);
}

const SHARED_DATA_CASES: &str = r#"{"cases": [
    {"name": "shared data", "shared_data": {"x-one": "a", "other": "b"}, "request": {}, "upstream": {"headers": {"x-one": ["a"]}},
     "then": [{"request": {}, "upstream": {"headers": {"x-one": ["value"]}}}]},
    {"name": "shared data of a VM id", "plugin": {"vm_id": "one"}, "shared_data": {"x-one": "a"},
     "request": {}, "upstream": {"headers": {"x-one": ["a"]}}}]}"#;

/// Counts and logs: at each start, for each request, and at the end of a stream.
const COUNTS_AND_LOGS: &str = r#"
    (global $requests (mut i32) (i32.const 0)) (global $open (mut i32) (i32.const 0))
    (global $level (mut i32) (i32.const 0)) (global $sizes (mut i32) (i32.const 0))
    (func $new_metric (param $kind i32) (param $at i32) (param $length i32) (result i32)
        (drop (call $define (local.get $kind) (local.get $at) (local.get $length) (i32.const 0))) (i32.load (i32.const 0)))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $increment (call $new_metric (i32.const 0) @"starts") (i64.const 1)))
        (global.set $requests (call $new_metric (i32.const 0) @"requests"))
        (global.set $open (call $new_metric (i32.const 1) @"open"))
        (global.set $level (call $new_metric (i32.const 1) @"level"))
        (global.set $sizes (call $new_metric (i32.const 2) @"sizes"))
        (drop (call $log (i32.const 2) @"started")) i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $increment (global.get $requests) (i64.const 2)))
        (drop (call $increment (global.get $open) (i64.const 1)))
        (drop (call $record (global.get $level) (i64.const 5)))
        (drop (call $record (global.get $sizes) (i64.const 7)))
        (drop (call $log (i32.const 3) @"two\nlines")) i32.const 0)
    (func (export "proxy_on_log") (param i32)
        (drop (call $increment (global.get $open) (i64.const -1)))
        (drop (call $log (i32.const 0) @"over")))"#;

#[test]
fn metrics_and_logs() {
    check(COUNTS_AND_LOGS, METRIC_AND_LOG_CASES);
}

const METRIC_AND_LOG_CASES: &str = r#"{"cases": [
    {"name": "one exchange", "request": {}, "upstream": {}, "logs": [{"level": "warn", "text": "two\nlines"}, {"level": "trace", "text": "over"}],
     "finally": {"metrics": {"requests": 2, "open": 0, "level": 5, "starts": 1}, "logs": [{"text": "started"}]}},
    {"name": "two exchanges", "request": {}, "upstream": {}, "logs": [{"text": "over"}, {"level": "info", "absent": true}],
     "then": [{"request": {}, "upstream": {}, "logs": [{"text": "two", "absent": true}, {"level": "warn"}]}],
     "finally": {"metrics": {"requests": 4, "open": 0}}},
    {"name": "a plugin and a VM with names", "plugin": {"name": "same", "root_id": "r", "vm_id": "v"}, "request": {}, "upstream": {},
     "logs": [{"level": "warn", "text": "two\nlines"}], "finally": {"metrics": {"requests": 2}}}]}"#;

/// Traps if the request has the field `x-one`.
const TRAPS_ON_FIELD: &str = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (i32.eqz (call $get @request @"x-one" @to_result)) (then unreachable)) i32.const 0)"#;

#[test]
fn failure_policies() {
    check(TRAPS_ON_FIELD, FAILURE_CASES);
}

const FAILURE_CASES: &str = r#"{"cases": [
    {"name": "closed", "request": {"headers": [["x-one", "1"]]}, "fails": "unreachable", "downstream": {"status": 503},
     "then": [{"request": {}, "fails": "", "downstream": {"status": 503}}]},
    {"name": "open", "plugin": {"failure_policy": "open"}, "request": {"headers": [["x-one", "1"]]}, "fails": "unreachable",
     "downstream": {"status": 503}, "then": [{"request": {}, "upstream": {}}]},
    {"name": "reload", "plugin": {"failure_policy": "reload"}, "request": {"headers": [["x-one", "1"]]}, "fails": "unreachable",
     "downstream": {"status": 503}, "then": [{"after_ms": 1500, "request": {}, "upstream": {}}]}]}"#;

/// Does what the configuration says: `p` holds the request forever, `q` the response, `r` resets the stream, `t` traps,
/// `c` rejects the configuration.
const ENDS_AS_CONFIGURED: &str = r#"
    (global $variant (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
        (global.set $variant (i32.load8_u (i32.load (i32.const 0))))
        (if (i32.eq (global.get $variant) @'c') (then (call $log_text @"absent")))
        (i32.ne (global.get $variant) @'c'))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (i32.eq (global.get $variant) @'r') (then (drop (call $close (i32.const 0)))))
        (if (i32.eq (global.get $variant) @'t') (then unreachable))
        (i32.eq (global.get $variant) @'p'))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (i32.eq (global.get $variant) @'q'))"#;

#[test]
fn paused_reset_failed_and_rejected() {
    check(ENDS_AS_CONFIGURED, END_CASES);
}

const END_CASES: &str = r#"{"cases": [
    {"name": "request held forever", "config": "p", "request": {}, "paused": true},
    {"name": "response held forever", "config": "q", "request": {}, "upstream": {}, "paused": true},
    {"name": "reset", "config": "r", "request": {}, "reset": true},
    {"name": "trapped", "config": "t", "request": {}, "fails": "unreachable", "downstream": {"status": 503}},
    {"name": "rejected", "config": "c", "refused": ["absent"]}]}"#;
