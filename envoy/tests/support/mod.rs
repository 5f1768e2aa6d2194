//! What the tests share: the programs, a client that sends exactly what it is told, and an upstream that remembers
//! exactly what it received.

#![expect(unreachable_pub, reason = "each test binary uses a part of it")]

pub mod client;
pub mod upstream;

use std::path::PathBuf;

use fluxlit_envoy::Parts;

/// The programs, as `cargo xtask test` names them.
pub fn parts() -> Parts {
    Parts {
        envoy: named("FLUXLIT_TEST_ENVOY"),
        module: named("FLUXLIT_TEST_FILTER"),
        gateway: named("FLUXLIT_TEST_GATEWAY"),
        streamlit: named("FLUXLIT_TEST_STREAMLIT"),
    }
}

/// The program that this variable names.
pub fn named(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            panic!("{variable} is not set; run `cargo xtask test`, which sets it up")
        })
}

/// Latin-1 text as bytes.
pub fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).expect("the text is Latin-1"))
        .collect()
}

/// Bytes as Latin-1 text.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
