//! What does an operator get to see, and where?

use std::net::SocketAddr;

use crate::observe::otlp::Endpoint;
use crate::settings::source::Source;

/// Logs, metrics and traces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observe {
    /// How requests are logged to standard output; none if they are not.
    pub access_log: Option<LogFormat>,
    /// Names of query parameters whose values are not logged, beside those that never are.
    pub redacted: Vec<String>,
    /// Whether `/__fluxlit/metrics` answers.
    pub metrics: bool,
    /// Whether `/__fluxlit/debug` answers.
    pub debug: bool,
    /// Where the listener for operators is; none if there is none.
    pub admin: Option<SocketAddr>,
    /// Whether metrics and debug page are also served to everybody.
    pub is_public: bool,
    /// Where spans are sent, as OTLP over HTTP; none if they are not.
    pub(crate) otlp_endpoint: Option<Endpoint>,
    /// The service that spans name.
    pub service_name: String,
}

/// The form of a line of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// One line a person can read.
    Text,
}

impl Observe {
    pub(super) fn read(source: &mut Source<'_>, warnings: &mut Vec<String>) -> Self {
        let logs = source.flag("FLUXLIT_ENABLE_GATEWAY_ACCESS_LOG", "false");
        let format = match source
            .text("FLUXLIT_GATEWAY_ACCESS_LOG_FORMAT", "json")
            .as_str()
        {
            "json" => LogFormat::Json,
            "text" => LogFormat::Text,
            other => {
                let name = "FLUXLIT_GATEWAY_ACCESS_LOG_FORMAT";
                source.wrong(name, other.to_owned(), "json or text");
                LogFormat::Json
            }
        };
        let observe = Self {
            access_log: logs.then_some(format),
            redacted: source.list("FLUXLIT_LOG_SENSITIVE_QUERY_KEYS"),
            metrics: source.flag("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "false"),
            debug: source.flag("FLUXLIT_DEBUG", "false"),
            admin: source.socket_address("FLUXLIT_GATEWAY_ADMIN_ADDRESS"),
            is_public: source.flag("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "false"),
            otlp_endpoint: read_endpoint(source),
            service_name: source.text("FLUXLIT_OTLP_SERVICE_NAME", "fluxlit-gateway"),
        };
        if (observe.metrics || observe.debug) && observe.admin.is_none() && !observe.is_public {
            warnings.push(
                "metrics or debug page are on, but nobody can ask for them: set \
                 FLUXLIT_GATEWAY_ADMIN_ADDRESS=127.0.0.1:9901 for a listener of their own, or \
                 FLUXLIT_GATEWAY_PUBLIC_INTERNALS=1 to serve them to everybody"
                    .to_owned(),
            );
        }
        observe
    }
}

fn read_endpoint(source: &mut Source<'_>) -> Option<Endpoint> {
    let name = "FLUXLIT_OTLP_ENDPOINT";
    let value = source.get(name)?;
    let read = value.parse().ok();
    if read.is_none() {
        let expected = "the URL of a collector, such as http://127.0.0.1:4318; https is not spoken";
        source.wrong(name, value, expected);
    }
    read
}
