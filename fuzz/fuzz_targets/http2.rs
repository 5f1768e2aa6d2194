//! Fuzzes the reader of HTTP/2 frames: header blocks are taken out, and all else is passed on.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fluxlit_gateway::fuzzing::http2(bytes));
