//! Fuzzes the reader of chunked bodies with pieces of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fluxlit_gateway::fuzzing::chunked(bytes));
