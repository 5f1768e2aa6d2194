//! Tests that a module that cannot run is rejected when it is loaded, with all reasons.

use host_test::Filter;
use host_test::vm::LoadError;

use crate::support::guest::{bare_filter, bare_module, module};

/// The reasons why a module with these fields is rejected.
#[track_caller]
fn reasons(fields: &str) -> Vec<String> {
    match Filter::from_bytes(&bare_module(fields)) {
        Err(LoadError::Unsupported { reasons }) => reasons,
        Err(error) => panic!("rejected for another reason: {error}"),
        Ok(_) => panic!("the module was loaded"),
    }
}

#[test]
fn an_unknown_import_is_named() {
    let reasons = reasons(
        r#"(import "env" "proxy_brew" (func)) (import "wasi_snapshot_preview1" "fd_brew" (func))
            (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
            (func (export "malloc") (param i32) (result i32) unreachable)"#,
    );
    let want = [
        "import `env.proxy_brew` is unknown",
        "import `wasi_snapshot_preview1.fd_brew` is unknown",
    ];
    assert_eq!(reasons, want);
}

#[test]
fn an_import_of_the_wrong_type_is_named() {
    let reasons = reasons(
        r#"(import "env" "proxy_done" (func (param i64))) (memory (export "memory") 1)
            (func (export "proxy_abi_version_0_2_0")) (func (export "malloc") (param i32) (result i32) unreachable)"#,
    );
    assert!(
        reasons[0].starts_with("import `env.proxy_done` has the wrong type"),
        "{reasons:?}"
    );
}

#[test]
fn an_unknown_abi_version_is_named() {
    for (marker, want) in [
        ("proxy_abi_version_0_2_100", "ABI version 0.2.100"),
        ("proxy_abi_version_0_3_0", "ABI version 0.3.0"),
        ("something", "no ABI marker"),
    ] {
        let reasons = reasons(&format!(
            r#"(memory (export "memory") 1) (func (export "{marker}"))
                (func (export "malloc") (param i32) (result i32) unreachable)"#
        ));
        assert!(reasons[0].starts_with(want), "{reasons:?}");
    }
}

#[test]
fn all_reasons_are_listed_at_once() {
    let reasons = reasons(
        r#"(func (export "proxy_abi_version_0_2_1")) (func (export "proxy_on_tick") (param i64))"#,
    );
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[2].contains("`proxy_on_tick`"), "{reasons:?}");
}

#[test]
fn an_import_may_occur_twice() {
    let filter = bare_filter(
        r#"
        (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
        (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
        (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_0"))
        (func (export "malloc") (param i32) (result i32) unreachable)"#,
    );
    assert_eq!(filter.inspection().imports.len(), 2);
    assert_eq!(filter.inspection().abi_versions, ["0.2.0"]);
}

#[test]
fn bytes_that_are_not_a_module_are_invalid() {
    for bytes in [&b"#!/bin/sh"[..], b"", &module("")[..40]] {
        assert!(matches!(
            Filter::from_bytes(bytes),
            Err(LoadError::Invalid(_))
        ));
    }
}
