//! Is what cannot run refused at load, by name?

use host_test::{Filter, LoadError};

use crate::guest;

#[track_caller]
fn reasons(text: &str) -> Vec<String> {
    match Filter::from_bytes(&wat::parse_str(text).unwrap()) {
        Err(LoadError::Refused { reasons }) => reasons,
        Err(error) => panic!("refused for another reason: {error}"),
        Ok(_) => panic!("loaded"),
    }
}

#[test]
fn an_unknown_import_is_named() {
    let reasons = reasons(
        r#"(module (import "env" "proxy_brew" (func)) (import "wasi_snapshot_preview1" "fd_brew" (func))
            (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
            (func (export "malloc") (param i32) (result i32) unreachable))"#,
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
        r#"(module (import "env" "proxy_done" (func (param i64))) (memory (export "memory") 1)
            (func (export "proxy_abi_version_0_2_0")) (func (export "malloc") (param i32) (result i32) unreachable))"#,
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
            r#"(module (memory (export "memory") 1) (func (export "{marker}"))
                (func (export "malloc") (param i32) (result i32) unreachable))"#
        ));
        assert!(reasons[0].starts_with(want), "{reasons:?}");
    }
}

#[test]
fn everything_that_is_missing_is_said_at_once() {
    let reasons = reasons(
        r#"(module (func (export "proxy_abi_version_0_2_1")) (func (export "proxy_on_tick") (param i64)))"#,
    );
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[2].contains("`proxy_on_tick`"), "{reasons:?}");
}

#[test]
fn the_same_import_twice_is_no_fault() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
        (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
        (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_0"))
        (func (export "malloc") (param i32) (result i32) unreachable))"#;
    let filter = Filter::from_bytes(&wat::parse_str(text).unwrap()).expect("it loads");
    assert_eq!(filter.inspection().imports.len(), 2);
    assert_eq!(filter.inspection().abi_versions, ["0.2.0"]);
}

#[test]
fn what_is_not_wasm_is_invalid() {
    for bytes in [&b"#!/bin/sh"[..], b"", &guest::module("")[..40]] {
        assert!(matches!(
            Filter::from_bytes(bytes),
            Err(LoadError::Invalid(_))
        ));
    }
}
