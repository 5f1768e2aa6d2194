//! In which order is a module called, and what does it know by then?

use std::time::Duration;

use host_test::{Flow, LogLevel, MetricKind, Properties, Side, StartOptions, Value};

use crate::guest::{exchange, filter, plugin, texts};

/// Each callback logs the digit that the test names it by.
const ORDER: &str = r#"
    (func (export "_initialize") (call $say (i32.const 64) (i32.const 1)))
    (func (export "main") (param i32 i32) (result i32) (call $say (i32.const 65) (i32.const 1)) i32.const 0)
    (func (export "proxy_on_context_create") (param i32 i32) (call $say (i32.const 66) (i32.const 1)))
    (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $say (i32.const 67) (i32.const 1)) i32.const 1)
    (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $say (i32.const 68) (i32.const 1)) i32.const 1)
    (func (export "proxy_on_log") (param i32) (call $say (i32.const 69) (i32.const 1)))
    (func (export "proxy_on_done") (param i32) (result i32) (call $say (i32.const 70) (i32.const 1)) i32.const 1)
    (func (export "proxy_on_delete") (param i32) (call $say (i32.const 71) (i32.const 1)))
"#;

#[test]
fn a_start_and_a_stream_go_in_envoys_order() {
    let plugin = plugin(ORDER);
    assert_eq!(texts(&plugin.logs()), "0 1 2 3 4");
    assert_eq!(texts(&exchange(&plugin).logs), "2 5 6 7");
    plugin.clone().stop().expect("it stops");
    assert_eq!(texts(&plugin.logs()), "0 1 2 3 4 6 7");
}

#[test]
fn a_refused_configuration_comes_with_its_reason() {
    let refused = filter(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
            (call $say_result)
            i32.const 0)"#,
    )
    .start(StartOptions {
        plugin_configuration: b"wrong".to_vec(),
        ..StartOptions::default()
    })
    .err()
    .expect("it is refused");
    assert_eq!(refused.to_string(), "on_configure returned false");
    assert_eq!(texts(&refused.logs), "wrong");
    assert_eq!(refused.failure, None);
}

#[test]
fn the_plugin_configuration_is_there_in_on_configure_alone() {
    let callbacks = r#"
        (func $read (drop (call $buffer (i32.const 6) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4)))
            (call $say_result)
            (call $report (call $buffer (i32.const 7) (i32.const 1) (i32.const 2) (i32.const 0) (i32.const 4))))
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $read) i32.const 1)
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $read) (call $say_result) i32.const 1)"#;
    let plugin = filter(callbacks)
        .start(StartOptions {
            plugin_configuration: b"plugin".to_vec(),
            vm_configuration: b"vm".to_vec(),
            ..StartOptions::default()
        })
        .expect("it starts");
    assert_eq!(texts(&plugin.logs()), "vm 1 vm 0 lu");
}

#[test]
fn only_the_log_may_be_called_before_the_start() {
    let refused = filter(
        r#"(func (export "_initialize")
            (call $say (i32.const 32) (i32.const 5))
            (drop (call $tick (i32.const 1))))"#,
    )
    .start(StartOptions::default())
    .err()
    .expect("it is refused");
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
        (func (export "proxy_on_tick") (param i32) (call $say (i32.const 32) (i32.const 5)))"#,
    );
    plugin.advance(Duration::from_millis(350));
    assert_eq!(texts(&plugin.logs()), "value value value");
}

#[test]
fn metrics_keep_envoys_rules() {
    let plugin = plugin(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $define (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0)))
            (call $report (call $increment (i32.load (i32.const 0)) (i64.const 5)))
            (call $report (call $increment (i32.load (i32.const 0)) (i64.const 0)))
            (call $report (call $increment (i32.load (i32.const 0)) (i64.const -1)))
            (call $report (call $record (i32.load (i32.const 0)) (i64.const 3)))
            (call $report (call $record (i32.const 99) (i64.const 3)))
            (call $report (call $define (i32.const 3) (i32.const 16) (i32.const 5) (i32.const 0)))
            i32.const 1)"#,
    );
    assert_eq!(texts(&plugin.logs()), "0 2 2 0 1 2");
    let metric = plugin.metrics()["x-one"].clone();
    assert_eq!((metric.kind, metric.value), (MetricKind::Counter, 8));
}

#[test]
fn standard_error_is_an_error_in_the_log() {
    let plugin = plugin(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (i32.store (i32.const 128) (i32.const 32)) (i32.store (i32.const 132) (i32.const 5))
            (call $report (call $fd_write (i32.const 2) (i32.const 128) (i32.const 1) (i32.const 0)))
            (call $report (call $fd_write (i32.const 3) (i32.const 128) (i32.const 1) (i32.const 0)))
            i32.const 1)"#,
    );
    let logs = plugin.logs();
    assert_eq!(texts(&logs), "value 0 8");
    assert_eq!(logs[0].level, LogLevel::Error);
}

#[test]
fn who_sleeps_finds_that_time_has_passed() {
    // Memory from 512: a subscription to the clock for 3 ms, then one for 2 ms; the time before is kept at 640.
    let plugin = plugin(
        r#"(func $now (result i64)
            (drop (call $time (i32.const 1) (i64.const 0) (i32.const 648))) (i64.load (i32.const 648)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (i64.store (i32.const 536) (i64.const 3000000))
            (i64.store (i32.const 584) (i64.const 2000000))
            (i64.store (i32.const 640) (call $now))
            (call $report (call $poll (i32.const 512) (i32.const 656) (i32.const 2) (i32.const 700)))
            (call $report (i32.load (i32.const 700)))
            (call $say_number (i32.wrap_i64 (i64.sub (call $now) (i64.load (i32.const 640)))))
            i32.const 0)"#,
    );
    assert_eq!(texts(&exchange(&plugin).logs), "0 0 2 0 0 0 0 0 0");
}

#[test]
fn properties_have_envoys_bytes_and_paths() {
    let plugin = plugin(
        r#"(data (i32.const 200) "source\00port\00") (data (i32.const 220) "request\00path") (data (i32.const 240) "plugin_root_id")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $report (call $property (i32.const 200) (i32.const 11) (i32.const 0) (i32.const 4)))
            (call $report (call $property (i32.const 200) (i32.const 12) (i32.const 0) (i32.const 4)))
            (call $report (i64.ne (i64.load (i32.load (i32.const 0))) (i64.const 4711)))
            (call $report (call $property (i32.const 220) (i32.const 12) (i32.const 0) (i32.const 4)))
            (call $say_result)
            (call $report (call $property (i32.const 240) (i32.const 14) (i32.const 0) (i32.const 4)))
            (call $report (call $property (i32.const 48) (i32.const 6) (i32.const 0) (i32.const 4)))
            (call $report (call $property (i32.const 48) (i32.const 0) (i32.const 0) (i32.const 4)))
            (call $report (call $set_property (i32.const 48) (i32.const 6) (i32.const 32) (i32.const 5)))
            (call $report (call $property (i32.const 48) (i32.const 6) (i32.const 0) (i32.const 4)))
            (call $say_result)
            i32.const 0)"#,
    );
    let properties = Properties::default().with(&["source", "port"], Value::Int(4711));
    let mut stream = plugin.stream(properties);
    stream.request_headers(crate::guest::request(), true);
    assert_eq!(texts(&stream.finish().logs), "0 0 0 0 /a 0 1 3 0 0 value");
}

#[test]
fn what_is_unknown_says_so() {
    let plugin = plugin(
        r#"(data (i32.const 200) "clear_route_cache")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $report (call $call (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (call $report (call $foreign (i32.const 200) (i32.const 17) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (call $report (call $foreign (i32.const 48) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (call $report (call $effective (i32.const 77)))
            (call $report (call $done))
            i32.const 0)"#,
    );
    let outcome = exchange(&plugin);
    assert_eq!(texts(&outcome.logs), "2 0 1 2 1");
    assert_eq!(outcome.calls["proxy_call_foreign_function"], 2);
}

/// An HTTP/2 METADATA frame can be neither read nor held back; a foreign call's arguments can be read while it lasts.
#[test]
fn metadata_frames_and_foreign_calls_come_through() {
    let plugin = plugin(
        r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0)
        (func (export "proxy_on_request_metadata") (param i32 i32) (result i32)
            (call $say_number (local.get 1))
            i32.const 1)
        (func (export "proxy_on_response_metadata") (param i32 i32) (result i32)
            (call $say_number (local.get 1))
            i32.const 0)
        (func (export "proxy_on_foreign_function") (param i32 i32 i32)
            (call $say_number (local.get 1))
            (call $say_number (local.get 2))
            (call $report (call $buffer (i32.const 8) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4)))
            (call $say_result))
        (func (export "proxy_on_tick") (param i32)
            (call $report (call $buffer (i32.const 8) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4)))
            (call $say_number (i32.load (i32.const 4))))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $tick (i32.const 1000)))
            i32.const 1)"#,
    );
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(crate::guest::request(), false);
    assert_eq!(stream.metadata(Side::Request, 2), Flow::Continue);
    assert_eq!(stream.metadata(Side::Response, 3), Flow::Continue);
    assert_eq!(texts(&stream.finish().logs), "2 3");
    plugin.call_foreign(7, b"abc");
    plugin.advance(Duration::from_secs(1));
    assert_eq!(texts(&plugin.logs()), "7 3 0 abc 0 0");
}
