//! Is what the host does to a module what Envoy does?
//!
//! Guests are written here in the text format, each as small as its question. No wasm target is needed.

mod cases;
mod cli;
mod failures;
mod guest;
mod header_maps;
mod life_cycle;
mod loading;
mod memory;
mod serve;
mod streams;
