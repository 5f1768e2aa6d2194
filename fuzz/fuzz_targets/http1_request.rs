//! Heads of requests: where they end, what they say, and how long the body is.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fluxlit_gateway::fuzzing::request(bytes));
