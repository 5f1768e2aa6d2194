//! What does a filter meet when a VM has failed, a host call fails, or its ABI is another?

use std::time::Duration;

use host_test::{
    Failure, FailurePolicy, Fault, FaultPoint, Filter, LoadOptions, Outcome, Plugin, StartOptions,
    Status, Unknown,
};

use crate::guest::{exchange, filter, texts};

/// Fails on the first request of each VM only if the path's last letter is `x`: here always.
const FAILING: &str = r#"
    (func $inner (call $say (i32.const 32) (i32.const 5)) unreachable)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $inner) i32.const 0)"#;

fn started(guest: &str, options: StartOptions) -> Plugin {
    filter(guest).start(options).expect("the guest starts")
}

fn status(outcome: &Outcome) -> &[u8] {
    let downstream = outcome.downstream.as_ref().expect("an answer");
    downstream.headers.get(":status").expect("a status")
}

#[test]
fn closed_answers_503_for_ever_and_open_lets_later_requests_by() {
    for (failure_policy, second) in [
        (FailurePolicy::Closed, &b"503"[..]),
        (FailurePolicy::Open, b"200"),
    ] {
        let options = StartOptions {
            failure_policy,
            ..StartOptions::default()
        };
        let plugin = started(FAILING, options);
        assert_eq!(status(&exchange(&plugin)), b"503");
        let outcome = exchange(&plugin);
        assert_eq!(status(&outcome), second);
        assert_eq!(outcome.failure.is_none(), second == b"200");
    }
}

#[test]
fn reload_gives_a_new_vm_unless_the_last_one_is_too_young() {
    let options = StartOptions {
        failure_policy: FailurePolicy::Reload {
            backoff: Duration::from_secs(1),
        },
        faults: vec![Fault {
            at: FaultPoint::Callback("proxy_on_request_headers".to_owned()),
            number: 2,
        }],
        ..StartOptions::default()
    };
    let guest = r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $say (i32.const 32) (i32.const 5)) i32.const 1)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0)"#;
    let plugin = started(guest, options);
    // The second request of each VM fails.
    let answers: Vec<Vec<u8>> = (0..6)
        .map(|_| status(&exchange(&plugin)).to_vec())
        .collect();
    assert_eq!(
        answers,
        [&b"200"[..], b"503", b"200", b"503", b"503", b"503"]
    );
    plugin.advance(Duration::from_secs(1));
    assert_eq!(status(&exchange(&plugin)), b"200");
    assert_eq!(texts(&plugin.logs()), "value value value");
}

#[test]
fn a_trap_comes_with_its_stack_and_last_lines() {
    let plugin = started(FAILING, StartOptions::default());
    let Some(Failure::Trap { stack, logs, .. }) = exchange(&plugin).failure else {
        panic!("it did not trap");
    };
    assert_eq!(stack[0], "inner");
    assert_eq!(texts(&logs), "value");
}

#[test]
fn a_host_call_fails_the_time_it_is_told_to() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $report (call $replace (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))
        (call $report (call $replace (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))
        i32.const 0)"#;
    for status in Status::ALL {
        let plugin = started(
            guest,
            StartOptions {
                faults: vec![Fault {
                    at: FaultPoint::HostCall {
                        function: "proxy_replace_header_map_value".to_owned(),
                        status,
                    },
                    number: 2,
                }],
                ..StartOptions::default()
            },
        );
        let digit = char::from(b'0' + status as u8);
        assert_eq!(texts(&exchange(&plugin).logs), format!("0 {digit}"));
    }
}

#[test]
fn an_allocation_that_fails_is_an_invalid_access() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $report (call $pairs (i32.const 0) (i32.const 0) (i32.const 4))) i32.const 0)"#;
    let options = StartOptions {
        faults: vec![Fault {
            at: FaultPoint::Allocation,
            number: 0,
        }],
        ..StartOptions::default()
    };
    assert_eq!(texts(&exchange(&started(guest, options)).logs), "6");
}

#[test]
fn every_host_call_is_traced_on_request() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4)))
        (drop (call $size (i32.const 9) (i32.const 0)))
        i32.const 0)"#;
    let options = StartOptions {
        trace: true,
        ..StartOptions::default()
    };
    let trace: Vec<String> = exchange(&started(guest, options))
        .trace
        .iter()
        .map(ToString::to_string)
        .collect();
    let want = [
        "proxy_on_request_headers: proxy_get_header_map_value(\"x-one\") = 0 \"first\"",
        "proxy_on_request_headers: proxy_get_header_map_size(9, 0) = 2",
    ];
    assert_eq!(trace, want);
}

/// A module with an import and a marker that the host does not know.
fn foreign(unknown: Unknown) -> Filter {
    let text = r#"(module
        (import "env" "proxy_brew" (func $brew (param i64) (result i32)))
        (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_100"))
        (func (export "malloc") (param i32) (result i32) unreachable)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (i32.ne (call $brew (i64.const 1)) (i32.const 12)) (then unreachable))
            i32.const 0))"#;
    let options = LoadOptions {
        unknown,
        any_abi: true,
        ..LoadOptions::default()
    };
    Filter::from_bytes_with(&wat::parse_str(text).unwrap(), options).expect("it loads")
}

#[test]
fn unknown_imports_stand_in_or_trap_as_asked() {
    let answering = foreign(Unknown::Answer(Status::Unimplemented));
    assert_eq!(answering.inspection().waived.len(), 2);
    let outcome = exchange(&answering.start(StartOptions::default()).unwrap());
    assert_eq!(outcome.failure, None);
    assert_eq!(outcome.unknown_calls["env.proxy_brew"], 1);
    let trapping = foreign(Unknown::Trap)
        .start(StartOptions::default())
        .unwrap();
    let failure = exchange(&trapping).failure.expect("it trapped").to_string();
    assert!(failure.contains("env.proxy_brew"), "{failure}");
}

#[test]
fn abi_0_1_0_has_its_own_calls_and_shorter_callbacks() {
    let text = r#"(module
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))
        (import "env" "proxy_continue_request" (func $continue (result i32)))
        (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (func (export "proxy_abi_version_0_1_0"))
        (data (i32.const 16) "absent")
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
        (func $report (param i32)
            (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get 0)))
            (drop (call $log (i32.const 2) (i32.const 8) (i32.const 1))))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $configuration (i32.const 0) (i32.const 4)))
            (drop (call $log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
            i32.const 1)
        (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
            (call $report (call $get (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 0) (i32.const 4)))
            (call $report (call $continue))
            i32.const 1))"#;
    let filter = Filter::from_bytes(&wat::parse_str(text).unwrap()).expect("it loads");
    let plugin = filter
        .start(StartOptions {
            plugin_configuration: b"plugin".to_vec(),
            ..StartOptions::default()
        })
        .expect("it starts");
    assert_eq!(texts(&plugin.logs()), "plugin");
    let outcome = exchange(&plugin);
    assert_eq!(texts(&outcome.logs), "0 0");
    assert!(outcome.upstream.is_some());
}
