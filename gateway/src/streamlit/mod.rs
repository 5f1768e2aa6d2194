//! Runs Streamlit as a child process.
//!
//! May use `settings`, `http`, `observe` and `net`.

mod reserved_port;
pub(crate) mod supervisor;

pub use reserved_port::ReservedPort;
