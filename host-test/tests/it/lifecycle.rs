//! Tests the order of callbacks and what a module can use in each: configuration, clock, metrics, properties.

use std::time::Duration;

use host_test::abi::{LogLevel, Value};
use host_test::event::Side;
use host_test::vm::MetricKind;
use host_test::{Flow, Properties, StartOptions};

use crate::support::guest::{exchange, filter, plugin, request, start, texts};

/// Each callback logs its digit.
const ORDER: &str = r#"
    (func (export "_initialize") (call $log_text @"0"))
    (func (export "main") (param i32 i32) (result i32) (call $log_text @"1") i32.const 0)
    (func (export "proxy_on_context_create") (param i32 i32) (call $log_text @"2"))
    (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $log_text @"3") i32.const 1)
    (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $log_text @"4") i32.const 1)
    (func (export "proxy_on_log") (param i32) (call $log_text @"5"))
    (func (export "proxy_on_done") (param i32) (result i32) (call $log_text @"6") i32.const 1)
    (func (export "proxy_on_delete") (param i32) (call $log_text @"7"))
"#;

#[test]
fn callbacks_run_in_envoys_order() {
    let plugin = plugin(ORDER);
    assert_eq!(texts(&plugin.logs()), "0 1 2 3 4");
    assert_eq!(texts(&exchange(&plugin).logs), "2 5 6 7");
    plugin.clone().stop().expect("it stops");
    assert_eq!(texts(&plugin.logs()), "0 1 2 3 4 6 7");
}

#[test]
fn a_rejected_configuration_is_reported_with_the_log() {
    let refused = filter(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
            (call $log_result)
            i32.const 0)"#,
    )
    .start(StartOptions {
        plugin_configuration: b"wrong".to_vec(),
        ..StartOptions::default()
    })
    .err()
    .expect("it is rejected");
    assert_eq!(refused.to_string(), "on_configure returned false");
    assert_eq!(texts(&refused.logs), "wrong");
    assert_eq!(refused.failure, None);
}

#[test]
fn the_plugin_configuration_can_be_read_in_on_configure_only() {
    let callbacks = r#"
        (func $read (drop (call $buffer (i32.const 6) (i32.const 0) (i32.const 9) @to_result))
            (call $log_result)
            (call $log_digit (call $buffer (i32.const 7) (i32.const 1) (i32.const 2) @to_result)))
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $read) i32.const 1)
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $read) (call $log_result) i32.const 1)"#;
    let plugin = start(
        callbacks,
        StartOptions {
            plugin_configuration: b"plugin".to_vec(),
            vm_configuration: b"vm".to_vec(),
            ..StartOptions::default()
        },
    );
    assert_eq!(texts(&plugin.logs()), "vm 1 vm 0 lu");
}

#[test]
fn only_logging_is_allowed_before_the_start() {
    let refused = filter(
        r#"(func (export "_initialize")
            (call $log_text @"value")
            (drop (call $tick (i32.const 1))))"#,
    )
    .start(StartOptions::default())
    .err()
    .expect("it is rejected");
    assert_eq!(texts(&refused.logs), "value");
    let failure = refused.failure.expect("it trapped").to_string();
    assert!(
        failure.contains("proxy_set_tick_period_milliseconds"),
        "{failure}"
    );
}

#[test]
fn ticks_follow_the_virtual_clock() {
    let plugin = plugin(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 100))) i32.const 1)
        (func (export "proxy_on_tick") (param i32) (call $log_text @"value"))"#,
    );
    plugin.advance(Duration::from_millis(350));
    assert_eq!(texts(&plugin.logs()), "value value value");
}

#[test]
fn metrics_follow_envoys_rules() {
    let plugin = plugin(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $define (i32.const 0) @"x-one" (i32.const 0)))
            (call $log_digit (call $increment (i32.load (i32.const 0)) (i64.const 5)))
            (call $log_digit (call $increment (i32.load (i32.const 0)) (i64.const 0)))
            (call $log_digit (call $increment (i32.load (i32.const 0)) (i64.const -1)))
            (call $log_digit (call $record (i32.load (i32.const 0)) (i64.const 3)))
            (call $log_digit (call $record (i32.const 99) (i64.const 3)))
            (call $log_digit (call $define (i32.const 3) @"x-one" (i32.const 0)))
            i32.const 1)"#,
    );
    assert_eq!(texts(&plugin.logs()), "0 2 2 0 1 2");
    let metric = plugin.metrics()["x-one"].clone();
    assert_eq!((metric.kind, metric.value), (MetricKind::Counter, 8));
}

#[test]
fn standard_error_is_logged_as_an_error() {
    let plugin = plugin(
        r#";; Stores an I/O vector at 128.
        (func $vector (param $address i32) (param $length i32)
            (i32.store (i32.const 128) (local.get $address)) (i32.store (i32.const 132) (local.get $length)))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $vector @"value")
            (call $log_digit (call $fd_write (i32.const 2) (i32.const 128) (i32.const 1) (i32.const 0)))
            (call $log_digit (call $fd_write (i32.const 3) (i32.const 128) (i32.const 1) (i32.const 0)))
            i32.const 1)"#,
    );
    let logs = plugin.logs();
    assert_eq!(texts(&logs), "value 0 8");
    assert_eq!(logs[0].level, LogLevel::Error);
}

#[test]
fn poll_oneoff_advances_the_clock() {
    // Memory: at 512 two subscriptions to the clock, for 3 ms and 2 ms; at 640 the time at the start.
    let plugin = plugin(
        r#"(func $now (result i64)
            (drop (call $time (i32.const 1) (i64.const 0) (i32.const 648))) (i64.load (i32.const 648)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (i64.store (i32.const 536) (i64.const 3000000))
            (i64.store (i32.const 584) (i64.const 2000000))
            (i64.store (i32.const 640) (call $now))
            (call $log_digit (call $poll (i32.const 512) (i32.const 656) (i32.const 2) (i32.const 700)))
            (call $log_digit (i32.load (i32.const 700)))
            (call $log_number (i32.wrap_i64 (i64.sub (call $now) (i64.load (i32.const 640)))))
            i32.const 0)"#,
    );
    assert_eq!(texts(&exchange(&plugin).logs), "0 0 2 0 0 0 0 0 0");
}

#[test]
fn properties_are_encoded_and_addressed_as_in_envoy() {
    let plugin = plugin(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $log_digit (call $property @"source\00port" @to_result))
            (call $log_digit (call $property @"source\00port\00" @to_result))
            (call $log_digit (i64.ne (i64.load (i32.load (i32.const 0))) (i64.const 4711)))
            (call $log_digit (call $property @"request\00path" @to_result))
            (call $log_result)
            (call $log_digit (call $property @"plugin_root_id" @to_result))
            (call $log_digit (call $property @"absent" @to_result))
            (call $log_digit (call $property @"" @to_result))
            (call $log_digit (call $set_property @"absent" @"value"))
            (call $log_digit (call $property @"absent" @to_result))
            (call $log_result)
            i32.const 0)"#,
    );
    let properties = Properties::default().with(&["source", "port"], Value::Int(4711));
    let mut stream = plugin.stream(properties);
    stream.request_headers(request(), true);
    assert_eq!(texts(&stream.finish().logs), "0 0 0 0 /a 0 1 3 0 0 value");
}

#[test]
fn unknown_names_and_ids_return_envoys_statuses() {
    let plugin = plugin(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $log_digit (call $call (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (call $log_digit (call $foreign @"clear_route_cache" (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (call $log_digit (call $foreign @"absent" (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (call $log_digit (call $effective (i32.const 77)))
            (call $log_digit (call $done))
            i32.const 0)"#,
    );
    let outcome = exchange(&plugin);
    assert_eq!(texts(&outcome.logs), "2 0 1 2 1");
    assert_eq!(outcome.calls["proxy_call_foreign_function"], 2);
}

/// A filter can neither read nor hold an HTTP/2 METADATA frame. It can read the arguments of a foreign call only during
/// that call.
#[test]
fn metadata_frames_and_foreign_calls_reach_the_filter() {
    let plugin = plugin(
        r#"
        (func (export "proxy_on_request_metadata") (param i32 i32) (result i32)
            (call $log_number (local.get 1))
            i32.const 1)
        (func (export "proxy_on_response_metadata") (param i32 i32) (result i32)
            (call $log_number (local.get 1))
            i32.const 0)
        (func (export "proxy_on_foreign_function") (param i32 i32 i32)
            (call $log_number (local.get 1))
            (call $log_number (local.get 2))
            (call $log_digit (call $buffer (i32.const 8) (i32.const 0) (i32.const 9) @to_result))
            (call $log_result))
        (func (export "proxy_on_tick") (param i32)
            (call $log_digit (call $buffer (i32.const 8) (i32.const 0) (i32.const 9) @to_result))
            (call $log_number (i32.load (i32.const 4))))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $tick (i32.const 1000)))
            i32.const 1)"#,
    );
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), false);
    assert_eq!(stream.metadata(Side::Request, 2), Flow::Continue);
    assert_eq!(stream.metadata(Side::Response, 3), Flow::Continue);
    assert_eq!(texts(&stream.finish().logs), "2 3");
    plugin.call_foreign(7, b"abc");
    plugin.advance(Duration::from_secs(1));
    assert_eq!(texts(&plugin.logs()), "7 3 0 abc 0 0");
}

#[test]
fn a_stream_that_is_dropped_ends_in_the_vm() {
    let plugin = plugin(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (i32.eqz (call $define (i32.const 0) @"ended" (i32.const 500))))
        (func $count (drop (call $increment (i32.load (i32.const 500)) (i64.const 1))))
        (func (export "proxy_on_downstream_connection_close") (param i32 i32) (call $count))
        (func (export "proxy_on_log") (param i32) (call $count))
        (func (export "proxy_on_delete") (param i32) (call $count))"#,
    );
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), false);
    assert_eq!(plugin.contexts(), 1);
    drop(stream);
    assert_eq!((plugin.contexts(), plugin.metrics()["ended"].value), (0, 2));
    drop(plugin.connection(Properties::default()));
    assert_eq!((plugin.contexts(), plugin.metrics()["ended"].value), (0, 5));
    plugin.stream(Properties::default()).finish();
    assert_eq!(plugin.metrics()["ended"].value, 7);
}

#[test]
fn the_log_of_a_plugin_can_be_taken() {
    let plugin = plugin(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $log_text @"a") (i32.eqz (call $tick (i32.const 10))))
        (func (export "proxy_on_tick") (param i32) (call $log_text @"b"))"#,
    );
    assert_eq!(texts(&plugin.take_logs()), "a");
    plugin.advance(Duration::from_millis(20));
    assert_eq!(texts(&plugin.logs()), "b b");
    assert_eq!(texts(&plugin.take_logs()), "b b");
    assert_eq!(texts(&plugin.logs()), "");
}
