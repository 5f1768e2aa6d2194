//! Starts the real programs that the tests of this package put in front of and behind the gateway.
//!
//! `cargo xtask test` installs the programs, and names them in environment variables.

mod programs;

pub use programs::named;
