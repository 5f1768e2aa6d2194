//! Reads the settings of logs, metrics and traces.

use std::net::SocketAddr;

use crate::observe::endpoint::Endpoint;
use crate::settings::source::settings;
use crate::settings::values::{Boolean, Custom, List, Parsed, Text};

settings! {
    /// Logs, metrics and traces.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Observe {
        /// True if requests are logged to standard output.
        pub access_log: bool = "FLUXLIT_ENABLE_GATEWAY_ACCESS_LOG",
            default("false"), Boolean;
        /// The format of the access log.
        pub access_log_format: LogFormat = "FLUXLIT_GATEWAY_ACCESS_LOG_FORMAT",
            default("json"), Custom { read: LogFormat::read, expected: "json or text" };
        /// Names of further query parameters whose values are not logged.
        pub redacted: Vec<String> = "FLUXLIT_LOG_SENSITIVE_QUERY_KEYS",
            or_empty, List;
        /// True if `/__fluxlit/metrics` is served.
        pub metrics: bool = "FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS",
            default("false"), Boolean;
        /// True if `/__fluxlit/debug` is served.
        pub debug: bool = "FLUXLIT_DEBUG",
            default("false"), Boolean;
        /// The address of the admin listener.
        pub admin: Option<SocketAddr> = "FLUXLIT_GATEWAY_ADMIN_ADDRESS",
            optional, Parsed::new("an address with a port, such as 127.0.0.1:9901");
        /// True if the public listener serves metrics and the debug page as well.
        pub is_public: bool = "FLUXLIT_GATEWAY_PUBLIC_INTERNALS",
            default("false"), Boolean;
        /// The collector to which spans are sent, as OTLP over HTTP.
        pub(crate) otlp_endpoint: Option<Endpoint> = "FLUXLIT_OTLP_ENDPOINT",
            optional, Custom {
                read: |text| Endpoint::read(text).ok_or_else(|| text.to_owned()),
                expected: Endpoint::EXPECTED,
            };
        /// The service name of spans.
        pub service_name: String = "FLUXLIT_OTLP_SERVICE_NAME",
            default("fluxlit-gateway"), Text;
    }
}

/// The format of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// One line of `name=value` pairs.
    Text,
}

impl LogFormat {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(text.to_owned()),
        }
    }
}

impl Observe {
    /// Returns a warning if metrics or the debug page are on but no listener serves them.
    pub(super) fn warning(&self) -> Option<String> {
        let is_unserved = (self.metrics || self.debug) && self.admin.is_none() && !self.is_public;
        is_unserved.then(|| {
            "metrics or the debug page are on, but no listener serves them: set \
             FLUXLIT_GATEWAY_ADMIN_ADDRESS=127.0.0.1:9901 for an admin listener, or FLUXLIT_GATEWAY_PUBLIC_INTERNALS=1 to \
             serve them on the public one"
                .to_owned()
        })
    }
}
