//! Is what the host does to a module what Envoy does?
//!
//! Guests are written here in the text format, each as small as its question. No wasm target is needed.

mod call_outs;
mod case_files;
mod case_keys;
mod chain;
mod cli;
mod commands;
mod connections;
mod diff;
mod every_import;
mod failures;
mod faults;
mod guest;
mod header_maps;
mod life_cycle;
mod loading;
mod memory;
mod presented;
mod probes;
mod profiles;
mod serve;
mod shared;
mod streams;
