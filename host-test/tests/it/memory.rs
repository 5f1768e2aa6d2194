//! Tests that a module cannot make the host access memory outside the module's, or stop the host.
//!
//! Every function is called with addresses and lengths at, just beyond and far beyond the end of the memory, in each
//! argument. The result must be a status or a trap of the module.

use host_test::envoy::Profile;
use host_test::{Plugin, Properties, StartOptions};

use crate::support::guest::{bare_filter, exchange, plugin, request, texts};
use crate::support::interpreter::{self, imports};

#[test]
fn addresses_outside_the_memory_are_invalid() {
    let edges = [
        ("-1", "1"),
        ("65536", "1"),
        ("65535", "2"),
        ("0", "65537"),
        ("-1", "-1"),
        ("16", "-1"),
        ("-2147483648", "2147483647"),
    ];
    for (address, length) in edges {
        let plugin = plugin(&format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (call $log_digit (call $log (i32.const 2) (i32.const {address}) (i32.const {length})))
                (call $log_digit (call $get @request (i32.const {address}) (i32.const {length}) @to_result))
                (call $log_digit (call $add @request @"x-one" (i32.const {address}) (i32.const {length})))
                (call $log_digit (call $set_pairs @request (i32.const {address}) (i32.const {length})))
                (call $log_digit (call $property (i32.const {address}) (i32.const {length}) @to_result))
                (call $log_digit (call $reply (i32.const 200) (i32.const 0) (i32.const 0) (i32.const {address}) (i32.const {length})
                    (i32.const 0) (i32.const 0) (i32.const -1)))
                i32.const 0)"#
        ));
        let outcome = exchange(&plugin);
        assert_eq!(texts(&outcome.logs), "6 6 6 6 6 6", "{address}+{length}");
        assert_eq!(outcome.upstream.unwrap().headers, request());
    }
}

#[test]
fn results_outside_the_memory_are_invalid() {
    for address in ["-1", "65533", "65536"] {
        let plugin = plugin(&format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (call $log_digit (call $get @request @"x-one" (i32.const {address}) (i32.const 4)))
                (call $log_digit (call $get @request @"x-one" (i32.const 0) (i32.const {address})))
                (call $log_digit (call $size @request (i32.const {address})))
                (call $log_digit (call $define (i32.const 0) @"x-one" (i32.const {address})))
                i32.const 0)"#
        ));
        assert_eq!(texts(&exchange(&plugin).logs), "6 6 6 6", "{address}");
    }
}

#[test]
fn the_result_of_an_allocator_is_checked() {
    for address in ["0", "-1", "65535"] {
        let outcome = exchange(&with_allocator(&format!("i32.const {address}")));
        assert_eq!(texts(&outcome.logs), "6", "{address}");
        assert_eq!(outcome.failure, None);
    }
}

#[test]
fn an_allocator_may_call_the_host_but_is_not_entered_again() {
    let allocate = r#"(drop (call $get @request @"x-one" @to_result)) i32.const 1024"#;
    let outcome = exchange(&with_allocator(allocate));
    assert_eq!(texts(&outcome.logs), "0");
    assert_eq!(outcome.calls["proxy_get_header_map_value"], 2);
}

#[test]
fn an_allocator_that_traps_fails_the_filter() {
    let outcome = exchange(&with_allocator("unreachable"));
    assert!(outcome.failure.is_some());
    assert_eq!(outcome.local_reply.unwrap().status, 503);
}

/// Starts a guest that reads a header, with an allocator that has this body.
fn with_allocator(body: &str) -> Plugin {
    bare_filter(&format!(
        r#"
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) {body})
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (i32.store8 (i32.const 8) (i32.add (i32.const 48) (call $get @request @"x-one" @to_result)))
            (drop (call $log (i32.const 2) (i32.const 8) (i32.const 1)))
            i32.const 0)"#
    ))
    .start(StartOptions::default())
    .expect("the guest starts")
}

/// Calls every import with every combination of boundary values in two neighboring arguments.
#[test]
fn no_argument_of_any_import_stops_the_host() {
    const VALUES: [&str; 6] = ["-1", "0", "1", "8", "65535", "2147483647"];
    for (module, name, parameters) in imports() {
        let parameters: Vec<&str> = parameters.split_whitespace().collect();
        let mut calls = String::new();
        for position in 0..parameters.len().max(1) {
            for first in VALUES {
                for second in VALUES {
                    let arguments: String = parameters
                        .iter()
                        .enumerate()
                        .map(|(number, kind)| {
                            let value = match number {
                                _ if number == position => first,
                                _ if number == position + 1 => second,
                                _ => "0",
                            };
                            format!("({kind}.const {value})")
                        })
                        .collect();
                    calls.push_str(&format!("(drop (call $import {arguments}))"));
                }
            }
        }
        let filter = bare_filter(&format!(
            r#"
            (import "{module}" "{name}" (func $import (param {parameters}) (result i32)))
            (memory (export "memory") 1)
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 32768)
            (func $calls {calls})
            (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $calls) i32.const 1)
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $calls) i32.const 0)
            (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $calls) i32.const 0)
            (func (export "proxy_on_log") (param i32) (call $calls))"#,
            parameters = parameters.join(" "),
        ));
        // These crash Envoy, so with its profile they fail the filter.
        let profile = match name {
            "proxy_close_stream" | "proxy_continue_stream" | "proxy_send_local_response" => {
                Profile::Spec
            }
            _ => Profile::Envoy,
        };
        let options = StartOptions {
            profile,
            ..StartOptions::default()
        };
        let plugin = filter
            .start(options)
            .unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(request(), false);
        stream.request_body(b"body".to_vec(), true);
        let outcome = stream.finish();
        assert_eq!(outcome.failure, None, "{name}");
        assert!(outcome.calls[name] > 0, "{name}");
    }
}

#[test]
fn each_import_can_be_called_in_each_callback() {
    let filter = interpreter::filter();
    let all = imports();
    let end_of_callback = u8::try_from(all.len()).expect("one byte selects an import");
    for (number, (_, _, parameters)) in (0_u8..).zip(&all) {
        let size: usize = parameters
            .split_whitespace()
            .map(|kind| if kind == "i64" { 8 } else { 4 })
            .sum();
        // Each argument is 1, and each callback continues.
        let mut call = vec![number];
        call.extend((0..size).map(|offset| u8::from(offset % 4 == 0)));
        call.extend([end_of_callback, 0]);
        interpreter::run(&filter, &call.repeat(32));
    }
}

/// Calls arbitrary imports with arbitrary arguments in every callback, as the fuzz target `imports` does.
#[test]
fn no_sequence_of_calls_stops_the_host() {
    let filter = interpreter::filter();
    let mut state = 1_u64;
    for _ in 0..300 {
        let program: Vec<u8> = (0..400)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // Three of four bytes are small: small numbers are more often valid addresses, lengths and ids.
                let byte = (state >> 56) as u8;
                if state & 0x300_0000_0000 == 0 {
                    byte
                } else {
                    byte & 3
                }
            })
            .collect();
        interpreter::run(&filter, &program);
    }
}
