//! Tests that a failure of the filter becomes a result, with the effect that it has in Envoy.

use host_test::case_file::Runner;
use host_test::event::Side;
use host_test::vm::Failure;
use host_test::{Flow, Outcome, Plugin, Properties, StartOptions, lines};

use crate::support::cases::mismatches;
use crate::support::guest::{exchange, filter, plugin, request, texts};

/// A trap and an endless loop.
const FAILING: [&str; 2] = ["unreachable", "(loop $forever (br $forever)) unreachable"];

fn is_503(outcome: &Outcome) -> bool {
    outcome
        .downstream
        .as_ref()
        .and_then(|message| message.headers.get(":status"))
        == Some(b"503")
}

/// Sends a request and a response, both with body and trailers.
fn exchange_with_bodies(plugin: &Plugin) -> Outcome {
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), false);
    stream.request_body(b"ping".to_vec(), false);
    stream.request_trailers(lines(&[("x-trailer", "1")]));
    stream.response_headers(lines(&[(":status", "200")]), false);
    stream.response_body(b"pong".to_vec(), false);
    stream.response_trailers(lines(&[("x-trailer", "2")]));
    stream.finish()
}

#[test]
fn a_failure_in_any_callback_is_a_result() {
    let callbacks = [
        ("proxy_on_context_create", "(param i32 i32)"),
        (
            "proxy_on_request_headers",
            "(param i32 i32 i32) (result i32)",
        ),
        ("proxy_on_request_body", "(param i32 i32 i32) (result i32)"),
        ("proxy_on_request_trailers", "(param i32 i32) (result i32)"),
        (
            "proxy_on_response_headers",
            "(param i32 i32 i32) (result i32)",
        ),
        ("proxy_on_response_body", "(param i32 i32 i32) (result i32)"),
        ("proxy_on_response_trailers", "(param i32 i32) (result i32)"),
        ("proxy_on_log", "(param i32)"),
        ("proxy_on_done", "(param i32) (result i32)"),
        ("proxy_on_delete", "(param i32)"),
    ];
    for failing in FAILING {
        for (name, ty) in callbacks {
            // The same callback creates the plugin's root context, which must not fail.
            let condition = if name == "proxy_on_context_create" {
                "(if (i32.eqz (local.get 1)) (then return))"
            } else {
                ""
            };
            let guest = format!(
                r#"(func (export "{name}") {ty} {condition} (call $log_text @"value") {failing})"#
            );
            let plugin = filter(&guest)
                .start(StartOptions {
                    fuel_per_callback: 100_000,
                    ..StartOptions::default()
                })
                .expect("the guest starts");
            let outcome = exchange_with_bodies(&plugin);
            assert_eq!(texts(&outcome.logs), "value", "{name}");
            match outcome.failure.clone().expect("it failed") {
                Failure::Trap { callback, .. } => {
                    assert_eq!((callback.as_str(), failing), (name, "unreachable"));
                }
                Failure::EndlessLoop { callback, fuel, .. } => {
                    assert_eq!((callback.as_str(), fuel), (name, 100_000));
                    assert_ne!(failing, "unreachable");
                }
                failure => panic!("{failure}"),
            }
            match name {
                "proxy_on_response_body" | "proxy_on_response_trailers" => {
                    assert!(outcome.is_reset, "{name}");
                }
                "proxy_on_log" | "proxy_on_done" | "proxy_on_delete" => {
                    assert!(
                        outcome
                            .downstream
                            .is_some_and(|message| message.is_complete)
                    );
                }
                _ => assert!(is_503(&outcome), "{name}"),
            }
            let next = exchange(&plugin);
            assert!(
                is_503(&next),
                "{name}: the failed VM serves no more requests"
            );
            assert_eq!(next.upstream, None, "{name}");
        }
    }
}

#[test]
fn the_message_of_a_panic_comes_first_and_is_what_fails_matches() {
    // The SDK for Rust logs the message. The standard library writes it to standard error.
    for report in [
        r#"(drop (call $log (i32.const 5) @"panicked at src/lib.rs:1:2:\nno reason"))"#,
        r#"(call $write @"thread 'main' panicked at src/lib.rs:1:2:\nno reason\nnote: run with `RUST_BACKTRACE=1`")"#,
    ] {
        let guest = format!(
            r#"(func $write (param i32 i32)
                (i32.store (i32.const 200) (local.get 0)) (i32.store (i32.const 204) (local.get 1))
                (drop (call $fd_write (i32.const 2) (i32.const 200) (i32.const 1) (i32.const 208))))
            (func $core::panicking::panic {report} unreachable)
            (func $filter::look_up (call $core::panicking::panic))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $filter::look_up) i32.const 0)"#
        );
        let failure = exchange(&plugin(&guest)).failure.expect("it fails");
        let text = failure.to_string();
        let want = "proxy_on_request_headers trapped: panicked at src/lib.rs:1:2: no reason; ";
        assert!(text.starts_with(want), "{text}");
        let stack = "(in 1 frame of std, called by filter::look_up, called by ";
        assert!(text.contains(stack), "{text}");
        let case =
            r#""request": {}, "fails": "src/lib.rs:1:2: no reason", "downstream": {"status": 503}"#;
        let found = mismatches(&Runner::new(filter(&guest)), case);
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn a_failure_during_start_is_reported_with_its_step() {
    for failing in FAILING {
        for (step, guest) in [
            (
                "the module's initialization",
                "(func (export \"_initialize\")",
            ),
            (
                "on_vm_start",
                "(func (export \"proxy_on_vm_start\") (param i32 i32) (result i32)",
            ),
            (
                "on_configure",
                "(func (export \"proxy_on_configure\") (param i32 i32) (result i32)",
            ),
        ] {
            let refused = filter(&format!(r#"{guest} (call $log_text @"value") {failing})"#))
                .start(StartOptions {
                    fuel_at_start: 100_000,
                    ..StartOptions::default()
                })
                .err()
                .expect("it is refused");
            assert_eq!(refused.step, step);
            assert_eq!(texts(&refused.logs), "value", "{step}");
            assert!(refused.failure.is_some(), "{step}");
        }
    }
}

#[test]
fn a_loop_of_host_calls_does_not_exhaust_the_hosts_memory() {
    let plugin = plugin(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (loop $forever (call $log_text (i32.const 0) (i32.const 65536)) (br $forever)) i32.const 0)"#,
    );
    let outcome = exchange(&plugin);
    assert!(matches!(outcome.failure, Some(Failure::EndlessLoop { .. })));
    let kept: usize = outcome.logs.iter().map(|line| line.text.len()).sum();
    assert!(kept < 200_000_000, "{kept}");
}

#[test]
fn infinite_recursion_is_a_trap() {
    let plugin = plugin(
        r#"(func $deep (call $deep))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $deep) i32.const 0)"#,
    );
    assert!(exchange(&plugin).failure.is_some());
}

#[test]
fn memory_does_not_grow_beyond_its_limit() {
    let plugin = plugin(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $log_digit (i32.ne (memory.grow (i32.const 16384)) (i32.const -1)))
            i32.const 0)"#,
    );
    assert_eq!(texts(&exchange(&plugin).logs), "0");
}

#[test]
fn the_outcome_names_the_paused_side() {
    let plugin = plugin(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)"#,
    );
    let mut stream = plugin.stream(Properties::default());
    assert_eq!(stream.request_headers(request(), true), Flow::Paused);
    let outcome = stream.finish();
    assert_eq!(outcome.paused, [Side::Request]);
    assert_eq!((outcome.upstream, outcome.downstream), (None, None));
}
