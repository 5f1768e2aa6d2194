//! Fuzzes the reader of request heads: their end, their fields, and the length of the body.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fluxlit_gateway::fuzzing::request(bytes));
