//! Fuzzes the reader of response heads, which may contain data from a client.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fluxlit_gateway::fuzzing::response(bytes));
