//! Wraps `fluxlit-support` so that an error fails the test, and finds the programs under test.

#![expect(unreachable_pub, reason = "each test binary uses a part of it")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;

use fluxlit_cases::{Answer, UpstreamRequest};
use fluxlit_envoy::Parts;
use fluxlit_support::client;
use fluxlit_support::http1::Response;
use fluxlit_support::script::ScriptedResponse;
use fluxlit_support::upstream::{Options, Upstream};

/// Returns the programs under test, from the environment variables that `cargo xtask test` sets.
pub fn parts() -> Parts {
    Parts {
        envoy: named("FLUXLIT_TEST_ENVOY"),
        module: named("FLUXLIT_TEST_FILTER"),
        gateway: named("FLUXLIT_TEST_GATEWAY"),
        streamlit: named("FLUXLIT_TEST_STREAMLIT"),
    }
}

/// Returns the path in this environment variable.
pub fn named(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            panic!("{variable} is not set; run `cargo xtask test`, which sets it up")
        })
}

/// Starts an upstream that sends the default response of a case, also to the gateway's health checks, which it does not
/// record.
pub fn upstream() -> Upstream {
    let options = Options {
        answers_probes: true,
        ..Options::default()
    };
    Upstream::start(
        options,
        vec![ScriptedResponse::of_answer(&Answer::default())],
    )
    .expect("a free port")
}

pub fn connect(to: SocketAddr) -> TcpStream {
    client::connect(to).expect("a connection")
}

/// Connects from the local address `own`, such as 127.0.0.9.
pub fn connect_from(own: IpAddr, to: SocketAddr) -> TcpStream {
    client::connect_from(own, to).expect("a connection")
}

/// Sends bytes and reads one final response.
#[track_caller]
pub fn exchange(stream: &mut (impl Read + Write), request: &[u8], method: &str) -> Response {
    client::exchange(stream, request, method).expect("a response")
}

/// Returns the values of a field in a request that an upstream received.
pub fn values<'a>(received: &'a UpstreamRequest, name: &str) -> Vec<&'a str> {
    received
        .headers
        .iter()
        .filter(|(other, _)| other == name)
        .map(|(_, value)| value.as_str())
        .collect()
}
