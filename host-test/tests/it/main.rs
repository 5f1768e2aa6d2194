//! Tests that the host treats a module as Envoy does.
//!
//! Each guest is written next to its test and does only what that test needs; see [`support::guest`].

mod call_outs;
mod case_files;
mod case_keys;
mod chain;
mod commands;
mod connections;
mod diff;
mod failures;
mod faults;
mod header_maps;
mod lifecycle;
mod loading;
mod memory;
mod probes;
mod profiles;
mod request_properties;
mod serve;
mod shared;
mod streams;
mod support;
