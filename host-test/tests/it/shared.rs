//! Tests what plugins and VMs share: data, queues, one VM, and its end.

use std::time::Duration;

use host_test::vm::Clock;
use host_test::{Process, StartOptions};

use crate::support::guest::{exchange, filter, texts};

fn options(vm_id: &str) -> StartOptions {
    StartOptions {
        vm_id: vm_id.to_owned(),
        ..StartOptions::default()
    }
}

#[test]
fn shared_data_and_its_version_are_shared_by_vms_with_one_id() {
    let guest = filter(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $log_digit (call $data @"x-one" @to_result (i32.const 128)))
            (call $log_digit (i32.load (i32.const 128)))
            ;; A wrong version, the current one, and any.
            (call $log_digit (call $set_data @"x-one" @"value" (i32.const 77)))
            (call $log_digit (call $set_data @"x-one" @"value" (i32.load (i32.const 128))))
            (call $log_digit (call $set_data @"x-one" @"value" (i32.const 0)))
            i32.const 0)"#,
    );
    let process = Process::new(Clock::default());
    let one = process.start(&guest, options("a")).unwrap();
    let two = process.start(&guest, options("a")).unwrap();
    let other = process.start(&guest, options("b")).unwrap();
    // A new key accepts any version. 8 is a version mismatch.
    assert_eq!(texts(&exchange(&one).logs), "1 0 0 0 0");
    assert_eq!(texts(&exchange(&two).logs), "0 3 8 0 0");
    assert_eq!(texts(&exchange(&other).logs), "1 0 0 0 0");
    assert_eq!(process.shared_data("a", b"x-one").unwrap(), b"value");
    assert_eq!(process.shared_data("c", b"x-one"), None);
}

#[test]
fn a_queue_notifies_its_reader_in_another_vm() {
    let reading = filter(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $log_digit (call $register @"x-one" (i32.const 128))) i32.const 1)
        (func (export "proxy_on_queue_ready") (param $context i32) (param $queue i32)
            (call $log_digit (i32.ne (local.get $queue) (i32.load (i32.const 128))))
            (call $log_digit (call $dequeue (local.get $queue) @to_result))
            (call $log_result)
            (call $log_digit (call $dequeue (local.get $queue) @to_result))
            (call $log_digit (call $dequeue (i32.const 99) @to_result)))"#,
    );
    let writing = filter(
        r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $log_digit (call $resolve (i32.const 0) (i32.const 0) @"x-one" (i32.const 128)))
            (call $log_digit (call $resolve @"reader" @"absent" (i32.const 128)))
            (call $log_digit (call $resolve @"reader" @"x-one" (i32.const 128)))
            (call $log_digit (call $enqueue (i32.load (i32.const 128)) @"value"))
            (call $log_digit (call $enqueue (i32.const 99) @"value"))
            i32.const 0)"#,
    );
    let process = Process::new(Clock::default());
    let reader = process.start(&reading, options("reader")).unwrap();
    let writer = process.start(&writing, options("writer")).unwrap();
    assert_eq!(texts(&exchange(&writer).logs), "1 1 0 0 1");
    assert_eq!(texts(&reader.logs()), "0 0 0 value 7 1");
}

#[test]
fn plugins_in_one_vm_have_separate_configurations_and_fail_together() {
    let guest = filter(
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $log_text @"1") i32.const 1)
        (func (export "proxy_on_configure") (param $context i32) (param i32) (result i32)
            (call $log_digit (local.get $context))
            (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 9) @to_result))
            (call $log_result)
            (drop (call $tick (i32.const 100)))
            i32.const 1)
        (func (export "proxy_on_tick") (param $context i32) (call $log_digit (local.get $context)))
        (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
            (if (i32.ge_u (local.get $context) (i32.const 4)) (then unreachable))
            i32.const 0)"#,
    );
    let configured = |text: &str| StartOptions {
        plugin_configuration: text.into(),
        ..StartOptions::default()
    };
    let one = guest.start(configured("one")).unwrap();
    let two = one.start_in_same_vm(configured("two")).unwrap();
    one.advance(Duration::from_millis(100));
    assert_eq!(texts(&one.logs()), "1 1 one 1");
    assert_eq!(texts(&two.logs()), "1 2 two 2");
    assert_eq!(exchange(&one).failure, None);
    assert!(exchange(&two).failure.is_some());
    assert_eq!(one.failure(), two.failure());
}

#[test]
fn start_as_envoy_starts_a_plugin_twice_more_than_there_are_workers() {
    let guest = filter(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $define (i32.const 0) @"x-one" (i32.const 0)))
            (drop (call $increment (i32.load (i32.const 0)) (i64.const 1)))
            i32.const 1)"#,
    );
    let plugins = guest
        .start_as_envoy(&StartOptions::default(), 2)
        .expect("it starts");
    assert_eq!(plugins.len(), 2);
    assert_eq!(plugins[0].metrics()["x-one"].value, 4);
}

#[test]
fn a_context_is_deleted_after_proxy_done() {
    let guest = filter(
        r#"(func (export "proxy_on_done") (param i32) (result i32) (call $tick (i32.const 10)))
        (func (export "proxy_on_tick") (param i32)
            (call $log_digit (call $effective (i32.const 2)))
            (call $log_digit (call $done)) (drop (call $tick (i32.const 0))))
        (func (export "proxy_on_delete") (param i32) (call $log_text @"value"))"#,
    );
    let plugin = guest.start(StartOptions::default()).unwrap();
    let outcome = exchange(&plugin);
    assert!(outcome.waits_for_done);
    assert_eq!(plugin.contexts(), 1);
    plugin.advance(Duration::from_millis(10));
    // The outcome of the stream has been returned, so its lines are the plugin's.
    assert_eq!(texts(&plugin.logs()), "0 0 value");
    assert_eq!(plugin.contexts(), 0);
}

#[test]
fn queues_that_notify_each_other_for_ever_fail_the_filter() {
    for (most, fails) in [(5000, false), (-1, true)] {
        let guest = filter(&format!(
            r#"(global $left (mut i32) (i32.const {most}))
            (func $send (drop (call $enqueue (i32.load (i32.const 128)) @"value")))
            (func (export "proxy_on_queue_ready") (param i32 i32)
                (drop (call $dequeue (local.get 1) @to_result))
                (global.set $next (i32.const 1024))
                (global.set $left (i32.sub (global.get $left) (i32.const 1)))
                (if (global.get $left) (then (call $send))))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                ;; The plugin is notified, although a stream registers the queue.
                (drop (call $register @"x-one" (i32.const 128)))
                (call $send) i32.const 0)"#
        ));
        let plugin = guest.start(StartOptions::default()).unwrap();
        exchange(&plugin);
        let failure = plugin.failure().map(|failure| failure.to_string());
        assert_eq!(failure.is_some(), fails, "{failure:?}");
        if let Some(failure) = failure {
            assert!(
                failure.starts_with("proxy_on_queue_ready is called again and again"),
                "{failure}"
            );
        }
    }
}
