//! What do several plugins and VMs share, and what not?

use std::time::Duration;

use host_test::{Clock, Process, StartOptions};

use crate::guest::{exchange, filter, texts};

fn options(vm_id: &str) -> StartOptions {
    StartOptions {
        vm_id: vm_id.to_owned(),
        ..StartOptions::default()
    }
}

#[test]
fn shared_data_keeps_its_versions_between_vms_of_one_id() {
    let guest = filter(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $report (call $data (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4) (i32.const 128)))
            (call $report (i32.load (i32.const 128)))
            ;; A version that is not there, the one that is, and any.
            (call $report (call $set_data (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5) (i32.const 77)))
            (call $report (call $set_data (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5) (i32.load (i32.const 128))))
            (call $report (call $set_data (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5) (i32.const 0)))
            i32.const 0)"#,
    );
    let process = Process::new(Clock::default());
    let one = process.start(&guest, options("a")).unwrap();
    let two = process.start(&guest, options("a")).unwrap();
    let other = process.start(&guest, options("b")).unwrap();
    // A new key takes any version; `8` is a mismatch.
    assert_eq!(texts(&exchange(&one).logs), "1 0 0 0 0");
    assert_eq!(texts(&exchange(&two).logs), "0 3 8 0 0");
    assert_eq!(texts(&exchange(&other).logs), "1 0 0 0 0");
    assert_eq!(process.shared_data("a", b"x-one").unwrap(), b"value");
    assert_eq!(process.shared_data("c", b"x-one"), None);
}

#[test]
fn a_queue_wakes_its_reader_in_another_vm() {
    let reading = filter(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $report (call $register (i32.const 16) (i32.const 5) (i32.const 128))) i32.const 1)
        (func (export "proxy_on_queue_ready") (param $context i32) (param $queue i32)
            (call $report (i32.ne (local.get $queue) (i32.load (i32.const 128))))
            (call $report (call $dequeue (local.get $queue) (i32.const 0) (i32.const 4)))
            (call $say_result)
            (call $report (call $dequeue (local.get $queue) (i32.const 0) (i32.const 4)))
            (call $report (call $dequeue (i32.const 99) (i32.const 0) (i32.const 4))))"#,
    );
    let writing = filter(
        r#"(data (i32.const 200) "reader")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $report (call $resolve (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 128)))
            (call $report (call $resolve (i32.const 200) (i32.const 6) (i32.const 48) (i32.const 6) (i32.const 128)))
            (call $report (call $resolve (i32.const 200) (i32.const 6) (i32.const 16) (i32.const 5) (i32.const 128)))
            (call $report (call $enqueue (i32.load (i32.const 128)) (i32.const 32) (i32.const 5)))
            (call $report (call $enqueue (i32.const 99) (i32.const 32) (i32.const 5)))
            i32.const 0)"#,
    );
    let process = Process::new(Clock::default());
    let reader = process.start(&reading, options("reader")).unwrap();
    let writer = process.start(&writing, options("writer")).unwrap();
    assert_eq!(texts(&exchange(&writer).logs), "1 1 0 0 1");
    assert_eq!(texts(&reader.logs()), "0 0 0 value 7 1");
}

#[test]
fn plugins_of_one_vm_have_their_own_configuration_and_one_fate() {
    let guest = filter(
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $say (i32.const 65) (i32.const 1)) i32.const 1)
        (func (export "proxy_on_configure") (param $context i32) (param i32) (result i32)
            (call $report (local.get $context))
            (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4)))
            (call $say_result)
            (drop (call $tick (i32.const 100)))
            i32.const 1)
        (func (export "proxy_on_tick") (param $context i32) (call $report (local.get $context)))
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
fn envoy_starts_a_plugin_once_a_worker_and_twice_more() {
    let guest = filter(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $define (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0)))
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
fn done_is_waited_for() {
    let guest = filter(
        r#"(func (export "proxy_on_done") (param i32) (result i32) (call $tick (i32.const 10)))
        (func (export "proxy_on_tick") (param i32)
            (call $report (call $effective (i32.const 2)))
            (call $report (call $done)) (drop (call $tick (i32.const 0))))
        (func (export "proxy_on_delete") (param i32) (call $say (i32.const 32) (i32.const 5)))"#,
    );
    let plugin = guest.start(StartOptions::default()).unwrap();
    let outcome = exchange(&plugin);
    assert!(outcome.waits_for_done);
    assert_eq!(plugin.contexts(), 1);
    plugin.advance(Duration::from_millis(10));
    assert_eq!(texts(&plugin.logs()), "0 0");
    assert_eq!(plugin.contexts(), 0);
}
