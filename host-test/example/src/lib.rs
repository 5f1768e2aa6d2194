//! Stands for a filter: where it is built from Rust, C++, Go or AssemblyScript, the tests load the `.wasm` file instead.

/// A filter in WebAssembly's text format: it forbids `/private`, and marks every other request.
pub const FILTER: &str = include_str!("filter.wat");
