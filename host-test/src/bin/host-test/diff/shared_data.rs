//! Builds a module that writes shared data in Envoy before the filter starts.
//!
//! Only a module can write shared data, so a small one precedes the filter in the chain, with the same `vm_id` and its own
//! VM. It writes only keys that have no value yet, because Envoy starts every plugin several times, and the filter may
//! have changed the data in between.

use std::collections::BTreeMap;

use fluxlit_cases::latin1;

/// Builds the module that writes `data`.
pub(super) fn module(data: &BTreeMap<String, String>) -> anyhow::Result<Vec<u8>> {
    let (mut segments, mut calls) = (String::new(), String::new());
    let mut end = DATA;
    let mut put = |text: &str| {
        let bytes = latin1::bytes(text);
        let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let range = format!("(i32.const {end}) (i32.const {})", bytes.len());
        segments.push_str(&format!("(data (i32.const {end}) \"{escaped}\")\n"));
        end += bytes.len();
        range
    };
    for (key, value) in data {
        let (key, value) = (put(key), put(value));
        calls.push_str(&format!(
            "(if (call $get {key} (i32.const 0) (i32.const 4) (i32.const 8))
                (then (drop (call $set {key} {value} (i32.const 0)))))\n"
        ));
    }
    // The host copies existing values into the module. They are not needed, so all of them get the same address.
    let pages = 2 * end / PAGE + 2;
    Ok(wat::parse_str(format!(
        r#"(module
            (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
            (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
            (memory (export "memory") {pages})
            {segments}
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const {end}))
            (func (export "proxy_on_context_create") (param i32 i32))
            (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
            (func (export "proxy_on_configure") (param i32 i32) (result i32) {calls} (i32.const 1)))"#
    ))?)
}

/// The address of the texts; the results of calls are stored before it.
const DATA: usize = 16;

/// The size of a page of a module's memory.
const PAGE: usize = 65536;
