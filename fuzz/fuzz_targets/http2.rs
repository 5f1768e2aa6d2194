//! Fuzzes an HTTP/2 connection: what it makes of frames, and what it sends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fluxlit_gateway::fuzzing::http2(bytes));
