//! Converts a request to an OpenTelemetry span.
//!
//! Spans are in the JSON mapping of OTLP's protobuf messages: ids in hex, 64-bit numbers as strings, enums as numbers.
//! Attributes have the names of the semantic conventions for HTTP servers, and FluxLit's `fluxlit.dispatch` and `request_id`.
//! The types have only the fields that are sent.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::redaction::{self, Redaction};
use super::{Ending, HttpVersion, Record};

/// The body of a request to a collector.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Export<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Debug, Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Debug, Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: &'a [Span],
}

#[derive(Debug, Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

/// The span of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'static str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    status: Status,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Attribute {
    key: &'static str,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Value {
    StringValue(String),
    IntValue(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
}

impl<'a> Export<'a> {
    pub(super) fn new(service_name: &str, spans: &'a [Span]) -> Self {
        Self {
            resource_spans: [ResourceSpans {
                resource: Resource {
                    attributes: vec![text("service.name", service_name)],
                },
                scope_spans: [ScopeSpans {
                    scope: Scope {
                        name: env!("CARGO_PKG_NAME"),
                        version: env!("CARGO_PKG_VERSION"),
                    },
                    spans,
                }],
            }],
        }
    }
}

impl Span {
    /// Returns the span of a request; `None` if it belongs to no trace, or to one that is not sampled.
    pub(super) fn of(record: &Record<'_>, redaction: &Redaction) -> Option<Self> {
        let trace = record.trace.filter(|trace| trace.sampled)?;
        let start = record.started.duration_since(SystemTime::UNIX_EPOCH);
        let start = start.unwrap_or_default();
        let nanoseconds = |since: Duration| since.as_nanos().to_string();
        let method = METHODS
            .into_iter()
            .find(|known| known.as_bytes() == record.method);
        let (path, query) = redaction::split(record.target);
        let mut attributes = vec![
            text("http.request.method", method.unwrap_or("_OTHER")),
            octets("url.path", path),
            text("network.protocol.name", "http"),
            text(
                "network.protocol.version",
                record.version.map_or("", HttpVersion::label),
            ),
            text("network.peer.address", &record.peer.to_string()),
            number("http.request.body.size", record.received_bytes),
            number("http.response.body.size", record.sent_bytes),
            text("fluxlit.dispatch", record.dispatch.label()),
            text("fluxlit.ending", record.ending.label()),
            text("request_id", record.request_id),
        ];
        if method.is_none() {
            attributes.push(octets("http.request.method_original", record.method));
        }
        if !query.is_empty() {
            let query: Vec<u8> = redaction.query(query).flatten().copied().collect();
            attributes.push(octets("url.query", &query));
        }
        if let Some(host) = record.host {
            attributes.push(text("server.address", host));
        }
        if let Some(client) = record.client {
            attributes.push(text("client.address", client));
        }
        if record.status != 0 {
            let status = record.status.into();
            attributes.push(number("http.response.status_code", status));
        }
        let error = error(record);
        if let Some(error) = &error {
            attributes.push(text("error.type", error));
        }
        Some(Self {
            trace_id: trace.trace_id.to_string(),
            span_id: trace.span_id.to_string(),
            parent_span_id: trace.parent_id.map(|parent| parent.to_string()),
            // Unknown methods and paths are left out, because span names must have a low cardinality.
            name: method.unwrap_or("HTTP"),
            kind: SERVER,
            start_time_unix_nano: nanoseconds(start),
            end_time_unix_nano: nanoseconds(start.saturating_add(record.duration)),
            attributes,
            status: Status {
                code: error.is_some().then_some(ERROR),
            },
        })
    }
}

/// Returns the type of an error of the gateway or the upstream. A rejected request is neither.
fn error(record: &Record<'_>) -> Option<String> {
    match record.ending {
        Ending::ConnectTimeout
        | Ending::UpstreamConnect
        | Ending::UpstreamTimeout
        | Ending::UpstreamBroke => Some(record.ending.label().to_owned()),
        _ => (record.status >= 500).then(|| record.status.to_string()),
    }
}

fn text(key: &'static str, text: &str) -> Attribute {
    octets(key, text.as_bytes())
}

fn octets(key: &'static str, octets: &[u8]) -> Attribute {
    let octets = octets.get(..MAX_VALUE).unwrap_or(octets);
    let text = String::from_utf8_lossy(octets).into_owned();
    Attribute {
        key,
        value: Value::StringValue(text),
    }
}

fn number(key: &'static str, number: u64) -> Attribute {
    Attribute {
        key,
        value: Value::IntValue(number.to_string()),
    }
}

/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// The methods that the semantic conventions list.
const METHODS: [&str; 9] = [
    "GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "CONNECT", "TRACE",
];

/// Maximum octets of a value.
const MAX_VALUE: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Dispatch;
    use super::super::reject_reason::RejectReason;
    use super::super::tests::typical;
    use super::super::trace::Trace;
    use super::*;

    fn trace(flags: &str) -> Trace {
        let sent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        let trace = Trace::read([sent.as_bytes()].into_iter()).expect("valid");
        trace.child(|| 0xabc)
    }

    fn attribute(span: &Span, key: &str) -> Value {
        let found = span.attributes.iter().find(|found| found.key == key);
        serde_json::to_value(found.map(|found| &found.value)).expect("JSON")
    }

    #[test]
    fn a_span_is_in_the_json_mapping_of_otlp() {
        let trace = trace("01");
        let record = Record {
            trace: Some(&trace),
            target: b"/apps/my-app/?page=2&token=abc",
            ..typical()
        };
        let span = Span::of(&record, &Redaction::new([])).expect("sampled");
        let spans = [span];
        let export = serde_json::to_value(Export::new("my-app", &spans)).expect("JSON");
        let string = |key, value| json!({"key": key, "value": {"stringValue": value}});
        let int = |key, value| json!({"key": key, "value": {"intValue": value}});
        let expected = json!({"resourceSpans": [{
            "resource": {"attributes": [string("service.name", "my-app")]},
            "scopeSpans": [{
                "scope": {"name": "fluxlit-gateway", "version": env!("CARGO_PKG_VERSION")},
                "spans": [{
                    "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
                    "spanId": "0000000000000abc",
                    "parentSpanId": "00f067aa0ba902b7",
                    "name": "GET",
                    "kind": 2,
                    "startTimeUnixNano": "1790000000123000000",
                    "endTimeUnixNano": "1790000000124500000",
                    "attributes": [
                        string("http.request.method", "GET"),
                        string("url.path", "/apps/my-app/"),
                        string("network.protocol.name", "http"),
                        string("network.protocol.version", "1.1"),
                        string("network.peer.address", "10.0.0.1"),
                        int("http.request.body.size", "0"),
                        int("http.response.body.size", "1024"),
                        string("fluxlit.dispatch", "streamlit"),
                        string("fluxlit.ending", "complete"),
                        string("request_id", "0190"),
                        string("url.query", "page=2&token=<redacted>"),
                        string("server.address", "portal.example"),
                        string("client.address", "203.0.113.7"),
                        int("http.response.status_code", "200"),
                    ],
                    "status": {},
                }],
            }],
        }]});
        assert_eq!(export, expected);
    }

    #[test]
    fn only_errors_of_the_gateway_or_the_upstream_are_errors() {
        let trace = trace("01");
        let table = [
            (200, Ending::Complete, None),
            (404, Ending::Complete, None),
            (431, Ending::Rejected(RejectReason::HandshakeTooLarge), None),
            (0, Ending::ClientLeft, None),
            (500, Ending::Complete, Some("500")),
            (502, Ending::UpstreamConnect, Some("upstream_connect")),
            (502, Ending::ConnectTimeout, Some("upstream_connect")),
            (200, Ending::UpstreamBroke, Some("upstream_broke")),
        ];
        for (status, ending, expected) in table {
            let record = Record {
                trace: Some(&trace),
                status,
                ending,
                ..typical()
            };
            let span = Span::of(&record, &Redaction::new([])).expect("sampled");
            let error = &attribute(&span, "error.type")["stringValue"];
            assert_eq!(error.as_str(), expected);
            assert_eq!(span.status.code, expected.map(|_| 2));
        }
    }

    #[test]
    fn a_trace_that_is_not_sampled_has_no_span() {
        let unsampled = trace("00");
        for trace in [None, Some(&unsampled)] {
            let record = Record { trace, ..typical() };
            assert_eq!(Span::of(&record, &Redaction::new([])), None);
        }
    }

    #[test]
    fn a_client_cannot_create_span_names() {
        let trace = trace("01");
        let record = Record {
            trace: Some(&trace),
            dispatch: Dispatch::Gateway,
            method: b"BREW\xff",
            host: None,
            client: None,
            status: 0,
            ..typical()
        };
        let span = Span::of(&record, &Redaction::new([])).expect("sampled");
        assert_eq!(span.name, "HTTP");
        let values = [
            ("http.request.method", json!({"stringValue": "_OTHER"})),
            (
                "http.request.method_original",
                json!({"stringValue": "BREW\u{fffd}"}),
            ),
            ("http.response.status_code", Value::Null),
            ("server.address", Value::Null),
            ("client.address", Value::Null),
        ];
        for (key, expected) in values {
            assert_eq!(attribute(&span, key), expected, "{key}");
        }
    }
}
