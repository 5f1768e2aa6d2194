//! Reads the settings of logs, metrics and traces.

use std::net::SocketAddr;

use crate::observe::endpoint::Endpoint;
use crate::settings::source::{Source, settings};
use crate::settings::values::{Boolean, Custom, List, Parsed, Text, read_boolean};
use crate::settings::warning::SettingWarning;

settings! {
    /// Logs, metrics and traces.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Observe {
        /// True if requests are logged to standard output.
        pub access_log: bool = "FLUXLIT_ENABLE_GATEWAY_ACCESS_LOG",
            default_from(|source| is_debug(source)), Boolean;
        /// The format of the access log.
        pub access_log_format: LogFormat = "FLUXLIT_GATEWAY_ACCESS_LOG_FORMAT",
            default("json"), Custom { read: LogFormat::read, expected: "json or text" };
        /// The most detailed level that is logged.
        pub log_level: LogLevel = "FLUXLIT_LOG_LEVEL",
            default("info"), Custom { read: LogLevel::read, expected: LogLevel::EXPECTED };
        /// Names of further query parameters whose values are not logged.
        pub redacted: Vec<String> = "FLUXLIT_LOG_SENSITIVE_QUERY_KEYS",
            or_empty, List;
        /// True if `/__fluxlit/metrics` is served.
        pub metrics: bool = "FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS",
            default("false"), Boolean;
        /// The path of the metrics, below the mount.
        pub metrics_path: String = "FLUXLIT_GATEWAY_PROMETHEUS_METRICS_PATH",
            default(METRICS_PATH), Custom { read: read_metrics_path, expected: "a path such as /__fluxlit/metrics" };
        /// A query parameter with a session, whose value is not logged.
        pub session_parameter: String = "FLUXLIT_URL_SESSION_QUERY_PARAM",
            default("fluxlit_sid"), Text;
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

/// The levels of FluxLit's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors.
    Error,
    /// And warnings.
    Warn,
    /// And what happens in normal operation.
    Info,
    /// And details.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const EXPECTED: &str = "critical, error, warning, info, debug or trace";

    fn read(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "critical" | "error" => Ok(Self::Error),
            "warning" | "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(text.to_owned()),
        }
    }
}

/// Returns the switch of debug mode, in which requests are logged as well.
fn is_debug(source: &Source<'_>) -> String {
    let debug = source.sources.find("FLUXLIT_DEBUG");
    let is_debug = debug.and_then(|found| read_boolean(&found.text));
    is_debug.unwrap_or(false).to_string()
}

fn read_metrics_path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/')
        && text.len() > 1
        && text
            .bytes()
            .all(|octet| octet.is_ascii_graphic() && !b"?#%\\".contains(&octet));
    is_path
        .then(|| text.to_owned())
        .ok_or_else(|| text.to_owned())
}

/// FluxLit's path of the metrics.
const METRICS_PATH: &str = "/__fluxlit/metrics";

impl Observe {
    /// Returns the directives for the log, such as `info`; in debug mode with the details of the gateway's own modules.
    pub fn log_directives(&self) -> String {
        let level = match self.log_level {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info if self.debug => "info,fluxlit_gateway=debug",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        };
        level.to_owned()
    }

    /// Returns the names of all query parameters that are configured as sensitive.
    pub fn redacted_parameters(&self) -> Vec<String> {
        let mut names = self.redacted.clone();
        names.push(self.session_parameter.clone());
        names
    }

    /// Returns a warning if metrics or the debug page are on but no listener serves them.
    pub(super) fn warning(&self) -> Option<SettingWarning> {
        let is_unserved = (self.metrics || self.debug) && self.admin.is_none() && !self.is_public;
        is_unserved.then(|| {
            SettingWarning::new(
                "internals_not_served",
                "metrics or the debug page are on, but no listener serves them: set \
                 FLUXLIT_GATEWAY_ADMIN_ADDRESS=127.0.0.1:9901 for an admin listener, or FLUXLIT_GATEWAY_PUBLIC_INTERNALS=1 \
                 to serve them on the public one",
            )
        })
    }
}
