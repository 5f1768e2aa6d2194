//! Fuzzes the reader of WebSocket frames with pieces of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fluxlit_gateway::fuzzing::frames(bytes));
