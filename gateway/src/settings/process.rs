//! Reads the settings of the process, and of its connections to upstreams.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::settings::source::settings;
use crate::settings::values::{
    Boolean, Custom, Parsed, Seconds, SecondsOrZero, Text, Whole, read_json_list,
};

/// The PEM files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by those of its issuers.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates that sign those of clients; `None` if clients are not asked for a certificate.
    pub client_ca: Option<PathBuf>,
}

settings! {
    /// The settings of the process, and of its connections to upstreams.
    pub(super) struct Process {
        /// The address to listen on.
        pub(super) host: IpAddr = "FLUXLIT_GATEWAY_HOST",
            default("127.0.0.1"), Parsed::new("an IP address, such as 127.0.0.1 or 0.0.0.0");
        /// The port to listen on; 0 takes a free one.
        pub(super) port: u16 = "FLUXLIT_GATEWAY_PORT",
            default("8000"), Whole { min: 0, max: u16::MAX };
        /// The number of worker threads.
        pub(super) workers: usize = "FLUXLIT_GATEWAY_WORKERS",
            default_from(|_| available_cores()), Whole { min: 1, max: 1024 };
        /// True if another process may listen on the same address.
        pub(super) reuse_port: bool = "FLUXLIT_GATEWAY_REUSE_PORT",
            default("false"), Boolean;
        /// The file of the TLS certificate.
        pub(super) certificate: Option<String> = "FLUXLIT_TLS_CERTIFICATE",
            optional, Text;
        /// The file of its private key.
        pub(super) key: Option<String> = "FLUXLIT_TLS_KEY",
            optional, Text;
        /// The file of the key with which a decision record can be asked for.
        pub(super) probe_key_file: Option<String> = "FLUXLIT_PROBE_KEY_FILE",
            optional, Text;
        /// The file of the certificates that sign those of clients.
        pub(super) client_ca: Option<String> = "FLUXLIT_TLS_CLIENT_CA",
            optional, Text;
        /// Names of headers that FluxLit copies to Streamlit. They pass here without a list.
        pub(super) forwarded_headers: Vec<String> = "FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT",
            or_empty, Custom { read: read_json_list, expected: JSON_LIST };
        /// True if a warning about the settings is an error.
        pub(super) strict_startup: bool = "FLUXLIT_STRICT_STARTUP",
            default("false"), Boolean;
        /// True if two different public base URLs are an error.
        pub(super) strict_public_base_url: bool = "FLUXLIT_STRICT_PUBLIC_BASE_URL",
            default("false"), Boolean;
        /// Further arguments for `streamlit run`.
        pub(super) streamlit_arguments: Vec<String> = "FLUXLIT_STREAMLIT_RUN_CLI_ARGS",
            or_empty, Custom { read: read_json_list, expected: JSON_LIST };
        /// The Streamlit executable.
        pub(super) streamlit_command: String = "FLUXLIT_STREAMLIT_COMMAND",
            default("streamlit"), Text;
        /// The Python that runs FluxLit and uvicorn.
        pub(super) python: Option<String> = "FLUXLIT_PYTHON",
            optional, Text;
        /// Maximum time to connect to an upstream.
        pub(super) connect_timeout: Duration = "FLUXLIT_GATEWAY_UPSTREAM_CONNECT_TIMEOUT_S",
            default("5"), Seconds;
        /// Maximum time until an upstream begins its response.
        pub(super) read_timeout: Duration = "FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S",
            default("120"), Seconds;
        /// Maximum time until an upstream responds to a WebSocket handshake.
        pub(super) handshake_timeout: Duration = "FLUXLIT_GATEWAY_WS_OPEN_TIMEOUT_S",
            default("30"), Seconds;
        /// How long connections are still accepted, with readiness 503, after the signal to stop.
        pub(super) drain_delay: Duration = "FLUXLIT_DRAIN_DELAY_S",
            default("0"), SecondsOrZero;
        /// Maximum time for requests in flight to finish once the gateway stops. The second name is FluxLit's.
        pub(super) grace_period: Duration = "FLUXLIT_GRACE_PERIOD_S" or "FLUXLIT_UVICORN_GRACEFUL_SHUTDOWN_TIMEOUT_S",
            default("10"), Seconds;
    }
}

fn available_cores() -> String {
    std::thread::available_parallelism()
        .map_or(1, Into::into)
        .to_string()
}

/// The description of a list of texts.
const JSON_LIST: &str = r#"a JSON list of texts, such as ["a", "b"]"#;
