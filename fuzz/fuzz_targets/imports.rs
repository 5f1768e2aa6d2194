//! Arbitrary arguments to every function that a module may import, in every callback: the test host must go on.
#![no_main]

#[path = "../../host-test/tests/it/every_import.rs"]
mod every_import;

use std::sync::LazyLock;

use host_test::Filter;
use libfuzzer_sys::fuzz_target;

static FILTER: LazyLock<Filter> = LazyLock::new(every_import::filter);

fuzz_target!(|program: &[u8]| every_import::run(&FILTER, program));
