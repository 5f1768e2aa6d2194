//! Can a module make the host reach where it should not?
//!
//! Every function is called with addresses and lengths at, over and far over the edge of the memory, in each place of
//! its arguments. Whatever comes of it is a status or a trap of the module, and the host goes on.

use host_test::{Filter, Profile, Properties, StartOptions};

use crate::every_import::imports;
use crate::guest::{exchange, plugin, request, texts};

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
                (call $report (call $log (i32.const 2) (i32.const {address}) (i32.const {length})))
                (call $report (call $get (i32.const 0) (i32.const {address}) (i32.const {length}) (i32.const 0) (i32.const 4)))
                (call $report (call $add (i32.const 0) (i32.const 16) (i32.const 5) (i32.const {address}) (i32.const {length})))
                (call $report (call $set_pairs (i32.const 0) (i32.const {address}) (i32.const {length})))
                (call $report (call $property (i32.const {address}) (i32.const {length}) (i32.const 0) (i32.const 4)))
                (call $report (call $reply (i32.const 200) (i32.const 0) (i32.const 0) (i32.const {address}) (i32.const {length})
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
    for place in ["-1", "65533", "65536"] {
        let plugin = plugin(&format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (call $report (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const {place}) (i32.const 4)))
                (call $report (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const {place})))
                (call $report (call $size (i32.const 0) (i32.const {place})))
                (call $report (call $define (i32.const 0) (i32.const 16) (i32.const 5) (i32.const {place})))
                i32.const 0)"#
        ));
        assert_eq!(texts(&exchange(&plugin).logs), "6 6 6 6", "{place}");
    }
}

#[test]
fn an_allocator_is_not_trusted() {
    for (allocate, want) in [
        ("i32.const 0", "6"),
        ("i32.const -1", "6"),
        ("i32.const 65535", "6"),
    ] {
        let outcome = exchange(
            &own_allocator(allocate)
                .start(StartOptions::default())
                .unwrap(),
        );
        assert_eq!(texts(&outcome.logs), want, "{allocate}");
        assert_eq!(outcome.failure, None);
    }
}

#[test]
fn an_allocator_that_asks_the_host_again_gets_no_second_one() {
    let allocate = r#"(drop (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4))) i32.const 1024"#;
    let outcome = exchange(
        &own_allocator(allocate)
            .start(StartOptions::default())
            .unwrap(),
    );
    assert_eq!(texts(&outcome.logs), "0");
    assert_eq!(outcome.calls["proxy_get_header_map_value"], 2);
}

#[test]
fn an_allocator_that_traps_is_a_failed_filter() {
    let outcome = exchange(
        &own_allocator("unreachable")
            .start(StartOptions::default())
            .unwrap(),
    );
    assert!(outcome.failure.is_some());
    assert_eq!(outcome.local_reply.unwrap().status, 503);
}

/// A guest that reads a header with this allocator.
fn own_allocator(allocate: &str) -> Filter {
    let text = format!(
        r#"(module
            (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
            (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "x-one")
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "malloc") (param i32) (result i32) {allocate})
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (i32.store8 (i32.const 8) (i32.add (i32.const 48)
                    (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4))))
                (drop (call $log (i32.const 2) (i32.const 8) (i32.const 1)))
                i32.const 0))"#
    );
    Filter::from_bytes(&wat::parse_str(text).unwrap()).expect("it loads")
}

/// Every import, with every combination of awkward numbers that two neighbouring arguments can have.
#[test]
fn no_argument_of_any_import_stops_the_host() {
    const NUMBERS: [&str; 6] = ["-1", "0", "1", "8", "65535", "2147483647"];
    for (module, name, parameters) in imports() {
        let parameters: Vec<&str> = parameters.split_whitespace().collect();
        let mut calls = String::new();
        for place in 0..parameters.len().max(1) {
            for first in NUMBERS {
                for second in NUMBERS {
                    let arguments: String = parameters
                        .iter()
                        .enumerate()
                        .map(|(number, kind)| {
                            let value = match number {
                                _ if number == place => first,
                                _ if number == place + 1 => second,
                                _ => "0",
                            };
                            format!("({kind}.const {value})")
                        })
                        .collect();
                    calls.push_str(&format!("(drop (call $import {arguments}))"));
                }
            }
        }
        let text = format!(
            r#"(module
                (import "{module}" "{name}" (func $import (param {parameters}) (result i32)))
                (memory (export "memory") 1)
                (func (export "proxy_abi_version_0_2_1"))
                (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 32768)
                (func $calls {calls})
                (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $calls) i32.const 1)
                (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $calls) i32.const 0)
                (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $calls) i32.const 0)
                (func (export "proxy_on_log") (param i32) (call $calls)))"#,
            parameters = parameters.join(" "),
        );
        let filter = Filter::from_bytes(&wat::parse_str(text).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        // By Envoy's rules these two fail the filter in `on_log`.
        let profile = match name {
            "proxy_close_stream" | "proxy_send_local_response" => Profile::Spec,
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
    let filter = crate::every_import::filter();
    let all = imports();
    let ending = u8::try_from(all.len()).expect("a byte names each");
    for (number, (_, _, parameters)) in (0_u8..).zip(&all) {
        let size: usize = parameters
            .split_whitespace()
            .map(|kind| if kind == "i64" { 8 } else { 4 })
            .sum();
        // Each argument is 1, and each callback continues.
        let mut call = vec![number];
        call.extend((0..size).map(|place| u8::from(place % 4 == 0)));
        call.extend([ending, 0]);
        crate::every_import::run(&filter, &call.repeat(32));
    }
}

/// Arbitrary arguments to arbitrary imports in every callback, as the fuzz target `imports` has them.
#[test]
fn no_sequence_of_calls_stops_the_host() {
    let filter = crate::every_import::filter();
    let mut state = 1_u64;
    for _ in 0..300 {
        let program: Vec<u8> = (0..400)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // Small numbers are more often an address, a length or an id that means something.
                let byte = (state >> 56) as u8;
                if state & 0x300_0000_0000 == 0 {
                    byte
                } else {
                    byte & 3
                }
            })
            .collect();
        crate::every_import::run(&filter, &program);
    }
}
