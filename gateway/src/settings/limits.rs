//! Reads the limits on what one client, request or connection may use.
//!
//! Every limit has a finite default, even where FluxLit has none.

use std::time::Duration;

use crate::settings::source::{Source, settings};
use crate::settings::values::{Seconds, SecondsOrZero, Whole};

settings! {
    /// Limits on what one client, request or connection may use.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Limits {
        /// Maximum bytes of a request's head; 431 above.
        pub head_bytes: usize = "FLUXLIT_GATEWAY_MAX_HEADER_BYTES",
            default("65536"), Whole { min: 1024, max: 1 << 20 };
        /// Maximum field lines of a request; 431 above.
        pub fields: usize = "FLUXLIT_GATEWAY_MAX_HEADER_COUNT",
            default("100"), Whole { min: 10, max: 1000 };
        /// Maximum bytes of a request target; 414 above.
        pub target_bytes: usize = "FLUXLIT_GATEWAY_MAX_TARGET_BYTES",
            default("8192"), Whole { min: 64, max: 8192 };
        /// Maximum bytes of a request's body, 0 for no limit; 413 above.
        pub body_bytes: u64 = "FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES",
            default("268435456"), Whole { min: 0, max: u64::MAX };
        /// Maximum time for a request's head from its first byte, and for the first byte of a new connection; 408 after.
        pub head_read: Duration = "FLUXLIT_GATEWAY_HEADER_READ_TIMEOUT_S",
            default("15"), Seconds;
        /// Maximum time that a connection waits for its next request.
        pub keep_alive: Duration = "FLUXLIT_GATEWAY_KEEPALIVE_TIMEOUT_S",
            default("75"), Seconds;
        /// Maximum pause within a request's body; 408 after.
        pub idle: Duration = "FLUXLIT_GATEWAY_BODY_IDLE_TIMEOUT_S",
            default("60"), Seconds;
        /// Maximum requests at the upstreams at the same time, 0 for no limit.
        pub concurrent: usize = "FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP",
            default_from(|source| concurrent(source)), Whole { min: 0, max: 1_000_000 };
        /// Maximum requests that wait for an upstream; 503 above.
        pub queued: usize = "FLUXLIT_GATEWAY_MAX_QUEUED_UPSTREAM_HTTP",
            default("1024"), Whole { min: 0, max: 1_000_000 };
        /// Maximum time that a request waits for an upstream; 503 after.
        pub queue_wait: Duration = "FLUXLIT_GATEWAY_QUEUE_TIMEOUT_S",
            default("10"), Seconds;
        /// Maximum open connections, 0 for no limit.
        pub connections: usize = "FLUXLIT_GATEWAY_MAX_CONNECTIONS",
            default("16384"), Whole { min: 0, max: 10_000_000 };
        /// Maximum open connections from one address that is not a trusted proxy, 0 for no limit.
        pub connections_per_peer: usize = "FLUXLIT_GATEWAY_MAX_CONNECTIONS_PER_PEER",
            default("8192"), Whole { min: 0, max: 10_000_000 };
        /// Maximum bytes of one header line of a WebSocket handshake, its end included; 431 above.
        pub websocket_line_bytes: usize = "FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES",
            default_from(|source| STREAMLIT_LINE.of(source)), Whole { min: 256, max: 1 << 20 };
        /// Maximum field lines of a WebSocket handshake; 431 above.
        pub websocket_fields: usize = "FLUXLIT_GATEWAY_WS_MAX_HEADER_COUNT",
            default_from(|source| STREAMLIT_FIELDS.of(source)), Whole { min: 10, max: 2000 };
        /// Maximum time without a byte on a WebSocket, zero for no limit.
        pub websocket_idle: Duration = "FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S",
            default("3600"), SecondsOrZero;
    }
}

impl Limits {
    /// Reads the setting of FluxLit that is only the default of another one.
    pub(super) fn read_alias(source: &mut Source<'_>) {
        let form = Whole {
            min: 0_u32,
            max: 1_000_000,
        };
        let _ = source.default(HTTPX_MAX_CONNECTIONS, "0", &form);
    }
}

/// Returns the default of the maximum of requests at the upstreams: FluxLit's maximum of connections, if there is one.
fn concurrent(source: &Source<'_>) -> String {
    let connections = source.sources.find(HTTPX_MAX_CONNECTIONS);
    let connections = connections.map(|found| found.text.trim().to_owned());
    let is_limit = |text: &String| text.parse::<u32>().is_ok_and(|number| number > 0);
    connections
        .filter(is_limit)
        .unwrap_or_else(|| "1024".to_owned())
}

/// FluxLit's limit of connections to Streamlit, each of which has one request at a time; 0 for that of its library.
const HTTPX_MAX_CONNECTIONS: &str = "FLUXLIT_GATEWAY_HTTPX_MAX_CONNECTIONS";

/// A limit of Streamlit's WebSocket server, which never responds to a handshake that exceeds it.
pub(crate) struct StreamlitLimit {
    /// The environment variable that sets the limit.
    pub(crate) variable: &'static str,
    /// The value that the gateway sets for a Streamlit that it starts.
    pub(crate) when_started: &'static str,
    /// The value that the gateway assumes for a Streamlit that is already running.
    otherwise: &'static str,
}

impl StreamlitLimit {
    fn of(&self, source: &Source<'_>) -> String {
        if !source.starts_streamlit {
            return self.otherwise.to_owned();
        }
        let inherited = source.text(self.variable);
        inherited.unwrap_or_else(|| self.when_started.to_owned())
    }
}

/// The maximum length of a header line: Streamlit responds to 8100 bytes and hangs at 8300.
pub(crate) const STREAMLIT_LINE: StreamlitLimit = StreamlitLimit {
    variable: "WEBSOCKETS_MAX_LINE_LENGTH",
    when_started: "65536",
    otherwise: "8190",
};

/// The maximum number of header lines: Streamlit responds to 100 in addition to its own and hangs at 125.
pub(crate) const STREAMLIT_FIELDS: StreamlitLimit = StreamlitLimit {
    variable: "WEBSOCKETS_MAX_NUM_HEADERS",
    when_started: "256",
    otherwise: "120",
};

#[cfg(test)]
impl Default for Limits {
    fn default() -> Self {
        let sources = crate::settings::sources::Sources::default();
        Self::read(&mut Source::new(&sources, false)).expect("the defaults are valid")
    }
}
