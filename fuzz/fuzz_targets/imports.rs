//! Fuzzes every function that a module can import, with any arguments in every callback: the test host must not fail.
#![no_main]

#[path = "../../host-test/tests/it/support/interpreter.rs"]
mod interpreter;

use std::sync::LazyLock;

use host_test::Filter;
use libfuzzer_sys::fuzz_target;

static FILTER: LazyLock<Filter> = LazyLock::new(interpreter::filter);

fuzz_target!(|program: &[u8]| interpreter::run(&FILTER, program));
