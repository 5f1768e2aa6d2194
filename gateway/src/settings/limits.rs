//! How much may one client, one request or one connection take?
//!
//! Every limit has a default that is not "none" where FluxLit has none. What counts in bytes may be 0 for no limit where
//! the table says so.

use std::time::Duration;

use crate::settings::file::SettingsFile;
use crate::settings::source::Source;

/// What nobody may exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's head; 431 above.
    pub head_bytes: usize,
    /// Field lines of a request; 431 above.
    pub fields: usize,
    /// Bytes of a request target; 414 above.
    pub target_bytes: usize,
    /// Bytes of a request's body, 0 for no limit; 413 above.
    pub body_bytes: u64,
    /// How long a request's head may take, from its first byte, and a new connection until then; 408 after.
    pub head_read: Duration,
    /// How long a connection may wait for its next request.
    pub keep_alive: Duration,
    /// Longest pause within a request's body; 408 after.
    pub idle: Duration,
    /// Requests that the upstreams are asked at the same time, 0 for no limit.
    pub concurrent: usize,
    /// Requests that wait for their turn; 503 above.
    pub queued: usize,
    /// How long a request may wait for its turn; 503 after.
    pub queue_wait: Duration,
    /// Open connections, 0 for no limit.
    pub connections: usize,
    /// Open connections from one address that is not a trusted proxy, 0 for no limit.
    pub connections_per_peer: usize,
    /// Bytes of one header line of a WebSocket handshake, its end included; 431 above.
    pub websocket_line_bytes: usize,
    /// Field lines of a WebSocket handshake; 431 above.
    pub websocket_fields: usize,
    /// Longest silence of a WebSocket, zero for no limit.
    pub websocket_idle: Duration,
}

impl Limits {
    /// `streamlit_line` and `streamlit_fields`: what Streamlit takes, if nothing else is said.
    pub(super) fn read(
        source: &mut Source<'_>,
        streamlit_line: &str,
        streamlit_fields: &str,
    ) -> Self {
        Self {
            head_bytes: source.whole("FLUXLIT_GATEWAY_MAX_HEADER_BYTES", "65536", 1024, 1 << 20),
            fields: source.whole("FLUXLIT_GATEWAY_MAX_HEADER_COUNT", "100", 10, 1000),
            target_bytes: source.whole("FLUXLIT_GATEWAY_MAX_TARGET_BYTES", "8192", 64, 8192),
            body_bytes: source.whole(
                "FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES",
                "268435456",
                0,
                u64::MAX,
            ),
            head_read: source.seconds("FLUXLIT_GATEWAY_HEADER_READ_TIMEOUT_S", "15"),
            keep_alive: source.seconds("FLUXLIT_GATEWAY_KEEPALIVE_TIMEOUT_S", "75"),
            idle: source.seconds("FLUXLIT_GATEWAY_BODY_IDLE_TIMEOUT_S", "60"),
            concurrent: source.whole(
                "FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP",
                "1024",
                0,
                1_000_000,
            ),
            queued: source.whole(
                "FLUXLIT_GATEWAY_MAX_QUEUED_UPSTREAM_HTTP",
                "1024",
                0,
                1_000_000,
            ),
            queue_wait: source.seconds("FLUXLIT_GATEWAY_QUEUE_TIMEOUT_S", "10"),
            connections: source.whole("FLUXLIT_GATEWAY_MAX_CONNECTIONS", "16384", 0, 10_000_000),
            connections_per_peer: source.whole(
                "FLUXLIT_GATEWAY_MAX_CONNECTIONS_PER_PEER",
                "8192",
                0,
                10_000_000,
            ),
            websocket_line_bytes: source.whole(
                "FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES",
                streamlit_line,
                256,
                1 << 20,
            ),
            websocket_fields: source.whole(
                "FLUXLIT_GATEWAY_WS_MAX_HEADER_COUNT",
                streamlit_fields,
                10,
                2000,
            ),
            websocket_idle: source.seconds_or_none("FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S", "3600"),
        }
    }
}

/// Longest header line that Streamlit's WebSocket server reads: it answers 8100 bytes and hangs at 8300.
pub(super) const STREAMLIT_LINE: &str = "8190";

/// Most header lines that it reads: it answers 100 beside its own and hangs at 125.
pub(super) const STREAMLIT_FIELDS: &str = "120";

impl Default for Limits {
    fn default() -> Self {
        let mut source = Source {
            flags: &[],
            environment: &[],
            file: &SettingsFile::default(),
            table: Vec::new(),
            errors: Vec::new(),
        };
        Self::read(&mut source, STREAMLIT_LINE, STREAMLIT_FIELDS)
    }
}
