//! Tests failure policies, injected faults, the trace, unknown imports and ABI 0.1.0.

use std::time::Duration;

use host_test::abi::Status;
use host_test::vm::{Failure, FailurePolicy, Fault, FaultPoint, LoadOptions, UnknownImports};
use host_test::{Filter, Outcome, StartOptions};

use crate::support::guest::{bare_filter, bare_module, exchange, plugin, start, texts};

/// Traps on each request.
const TRAPS: &str = r#"
    (func $inner (call $log_text @"value") unreachable)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $inner) i32.const 0)"#;

fn status(outcome: &Outcome) -> &[u8] {
    let downstream = outcome.downstream.as_ref().expect("a response");
    downstream.headers.get(":status").expect("a status")
}

#[test]
fn closed_rejects_and_open_bypasses_the_filter_after_a_failure() {
    for (failure_policy, second) in [
        (FailurePolicy::Closed, &b"503"[..]),
        (FailurePolicy::Open, b"200"),
    ] {
        let options = StartOptions {
            failure_policy,
            ..StartOptions::default()
        };
        let plugin = start(TRAPS, options);
        assert_eq!(status(&exchange(&plugin)), b"503");
        let outcome = exchange(&plugin);
        assert_eq!(status(&outcome), second);
        assert_eq!(outcome.failure.is_none(), second == b"200");
    }
}

#[test]
fn reload_starts_a_new_vm_after_the_backoff() {
    let options = StartOptions {
        failure_policy: FailurePolicy::Reload {
            backoff: Duration::from_secs(1),
        },
        faults: vec![Fault {
            at: FaultPoint::Callback("proxy_on_request_headers".to_owned()),
            occurrence: 2,
        }],
        ..StartOptions::default()
    };
    let guest = r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $log_text @"value") i32.const 1)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0)"#;
    let plugin = start(guest, options);
    // The second request of each VM fails.
    let statuses: Vec<Vec<u8>> = (0..6)
        .map(|_| status(&exchange(&plugin)).to_vec())
        .collect();
    assert_eq!(
        statuses,
        [&b"200"[..], b"503", b"200", b"503", b"503", b"503"]
    );
    plugin.advance(Duration::from_secs(1));
    assert_eq!(status(&exchange(&plugin)), b"200");
    assert_eq!(texts(&plugin.logs()), "value value value");
}

#[test]
fn a_trap_has_its_stack_and_last_log_lines() {
    let plugin = plugin(TRAPS);
    let Some(Failure::Trap { stack, logs, .. }) = exchange(&plugin).failure else {
        panic!("it did not trap");
    };
    assert_eq!(stack[0], "inner");
    assert_eq!(texts(&logs), "value");
}

#[test]
fn a_fault_strikes_the_numbered_host_call() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $log_digit (call $replace @request @"x-one" @"value"))
        (call $log_digit (call $replace @request @"x-one" @"value"))
        i32.const 0)"#;
    for status in Status::ALL {
        let plugin = start(
            guest,
            StartOptions {
                faults: vec![Fault {
                    at: FaultPoint::HostCall {
                        function: "proxy_replace_header_map_value".to_owned(),
                        status,
                    },
                    occurrence: 2,
                }],
                ..StartOptions::default()
            },
        );
        let digit = char::from(b'0' + status as u8);
        assert_eq!(texts(&exchange(&plugin).logs), format!("0 {digit}"));
    }
}

#[test]
fn a_failed_allocation_is_an_invalid_memory_access() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $log_digit (call $pairs @request @to_result)) i32.const 0)"#;
    let options = StartOptions {
        faults: vec![Fault {
            at: FaultPoint::Allocation,
            occurrence: 0,
        }],
        ..StartOptions::default()
    };
    assert_eq!(texts(&exchange(&start(guest, options)).logs), "6");
}

#[test]
fn the_trace_has_every_host_call() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $get @request @"x-one" @to_result))
        (drop (call $size (i32.const 9) (i32.const 0)))
        i32.const 0)"#;
    let options = StartOptions {
        trace: true,
        ..StartOptions::default()
    };
    let trace: Vec<String> = exchange(&start(guest, options))
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

/// Loads a module with an import and a marker that the host does not know. It traps unless the import returns 12.
fn load_unknown(unknown_imports: UnknownImports) -> Filter {
    let module = bare_module(
        r#"
        (import "env" "proxy_brew" (func $brew (param i64) (result i32)))
        (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_100"))
        (func (export "malloc") (param i32) (result i32) unreachable)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (i32.ne (call $brew (i64.const 1)) (i32.const 12)) (then unreachable))
            i32.const 0)"#,
    );
    let options = LoadOptions {
        unknown_imports,
        any_abi: true,
        ..LoadOptions::default()
    };
    Filter::from_bytes_with(&module, options).expect("the module loads")
}

#[test]
fn unknown_imports_return_a_status_or_trap() {
    let returning = load_unknown(UnknownImports::Return(Status::Unimplemented));
    assert_eq!(returning.inspection().waived.len(), 2);
    let outcome = exchange(&returning.start(StartOptions::default()).unwrap());
    assert_eq!(outcome.failure, None);
    assert_eq!(outcome.unknown_calls["env.proxy_brew"], 1);
    let trapping = load_unknown(UnknownImports::Trap)
        .start(StartOptions::default())
        .unwrap();
    let failure = exchange(&trapping).failure.expect("it trapped").to_string();
    assert!(failure.contains("env.proxy_brew"), "{failure}");
}

#[test]
fn abi_0_1_0_has_other_functions_and_fewer_parameters() {
    let filter = bare_filter(
        r#"
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))
        (import "env" "proxy_continue_request" (func $continue (result i32)))
        (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (func (export "proxy_abi_version_0_1_0"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
        (func $log_digit (param i32)
            (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get 0)))
            (drop (call $log (i32.const 2) (i32.const 8) (i32.const 1))))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $configuration @to_result))
            (drop (call $log (i32.const 2) @result))
            i32.const 1)
        (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
            (call $log_digit (call $get @request @"absent" @to_result))
            (call $log_digit (call $continue))
            i32.const 1)"#,
    );
    let plugin = filter
        .start(StartOptions {
            plugin_configuration: b"plugin".to_vec(),
            ..StartOptions::default()
        })
        .expect("the module starts");
    assert_eq!(texts(&plugin.logs()), "plugin");
    let outcome = exchange(&plugin);
    assert_eq!(texts(&outcome.logs), "0 0");
    assert!(outcome.upstream.is_some());
}
