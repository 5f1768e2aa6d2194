//! `host-test`: run a proxy-wasm filter without Envoy.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
