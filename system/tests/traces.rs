//! Shows that Envoy, the gateway and an API record a request as one trace, in a real OpenTelemetry collector that all three
//! send their spans to: Envoy over gRPC, the gateway as JSON, the API as Protobuf.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fluxlit_envoy::{Bootstrap, Gateway};
use fluxlit_support::client::{connect, exchange, get};
use fluxlit_support::envoy::Envoy;
use fluxlit_support::port::{free_ports, local};
use fluxlit_support::service::Service;
use fluxlit_support::wait::wait_until;
use fluxlit_system::{app, named};

/// A request through Envoy, with these further fields, each with a line break at its end.
fn request(edge: &Edge, target: &str, fields: &str) {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: portal.example.com\r\n{fields}Connection: close\r\n\r\n"
    );
    let mut connection = connect(edge.listener).expect("a connection");
    let response = exchange(&mut connection, request.as_bytes(), "GET").expect("a response");
    assert_eq!(response.status, 200, "{response:?}");
}

const API: &str = "/apps/my-app/api/items";
const PAGE: &str = "/apps/my-app/reports";

#[test]
fn a_request_is_one_trace_from_envoy_to_the_api() {
    let edge = Edge::start();
    request(&edge, API, "");
    let [envoy, gateway, api, query] = edge.chain(["edge", "gateway", "api", "api"], "");
    assert_eq!(query.name, "query");
    assert_eq!(api.name, "GET /items");
    assert_eq!(gateway.name, "GET");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/api/items"),
        ("fluxlit.dispatch", "api"),
        ("fluxlit.ending", "complete"),
        ("server.address", "portal.example.com"),
    ] {
        assert_eq!(gateway.attribute(key), Some(value), "{gateway:#?}");
    }
    // One id finds the request in the spans of Envoy and of the gateway, and in both logs.
    let id = gateway.attribute("request_id");
    assert_eq!(envoy.attribute("guid:x-request-id"), id, "{envoy:#?}");
    assert!(id.is_some());
}

/// Streamlit itself records no spans.
#[test]
fn the_spans_of_a_page_end_at_the_gateway() {
    let edge = Edge::start();
    request(&edge, PAGE, "");
    let [_, gateway] = edge.chain(["edge", "gateway"], "");
    assert_eq!(gateway.attribute("fluxlit.dispatch"), Some("streamlit"));
}

#[test]
fn the_trace_of_a_client_goes_on_unless_it_is_not_recorded() {
    let edge = Edge::start();
    let hidden = "5bf92f3577b34da6a3ce929d0e0e4736";
    let sent = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = "00f067aa0ba902b7";
    request(
        &edge,
        API,
        &format!("traceparent: 00-{hidden}-{parent}-00\r\n"),
    );
    request(
        &edge,
        API,
        &format!("traceparent: 00-{sent}-{parent}-01\r\n"),
    );
    let [envoy, ..] = edge.chain(["edge", "gateway", "api", "api"], parent);
    assert_eq!(envoy.trace, sent);
    // Each of the three sends its spans in the order of the requests.
    let spans = edge.spans();
    assert!(spans.iter().all(|span| span.trace != hidden), "{spans:#?}");
}

/// A collector, and an edge that sends its spans there: Envoy, the gateway, an API, and an app in place of Streamlit.
struct Edge {
    listener: SocketAddr,
    collector: Service,
    _api: Service,
    _gateway: Gateway,
    _envoy: Envoy,
    _folder: tempfile::TempDir,
}

/// A span as the collector prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Span {
    service: String,
    name: String,
    trace: String,
    id: String,
    /// Empty if it has no parent.
    parent: String,
    attributes: Vec<(String, String)>,
}

impl Edge {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let ports = free_ports(4).expect("free ports");
        let [grpc, http, api, listener] = ports[..] else {
            panic!("four ports");
        };
        let (grpc, http, api, listener) = (local(grpc), local(http), local(api), local(listener));
        let collector = start_collector(path, grpc, http);
        let endpoint = format!("http://{http}");
        let mut command = Command::new(named("FLUXLIT_TEST_TRACED_PYTHON"));
        command
            .args(["-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port"])
            .arg(api.port().to_string())
            .arg("--app-dir")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traces"))
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .env("OTEL_SERVICE_NAME", "api")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let started = Service::start("the API", command, &path.join("api.log"), |log| {
            log.contains("Application startup complete")
        });
        let settings = [
            (
                "FLUXLIT_STREAMLIT_UPSTREAM",
                format!("http://{}", app::start()),
            ),
            ("FLUXLIT_API_UPSTREAM", format!("http://{api}")),
            ("FLUXLIT_OTLP_ENDPOINT", endpoint),
            ("FLUXLIT_OTLP_SERVICE_NAME", "gateway".to_owned()),
        ];
        let gateway = Gateway::start(&named("FLUXLIT_TEST_GATEWAY"), None, settings, path);
        let gateway = gateway.expect("the gateway starts");
        assert!(gateway.wait_until_ready("", LIMIT), "the API is ready");
        let envoy = Bootstrap::shipped()
            .listening_on(listener)
            .forwarding_to(gateway.address)
            .with_module(&named("FLUXLIT_TEST_FILTER"))
            .with_tracing(grpc)
            .start(&named("FLUXLIT_TEST_ENVOY"), path, &["--concurrency", "1"]);
        Self {
            listener,
            collector,
            _api: started.expect("the API starts"),
            _gateway: gateway,
            _envoy: envoy.expect("Envoy starts"),
            _folder: folder,
        }
    }

    /// Waits until the collector has a chain of spans of these services, each the parent of the next one, that begins at a
    /// child of `parent`, which is empty for a root; returns it. Every span of the trace must be in it.
    fn chain<const N: usize>(&self, services: [&str; N], parent: &str) -> [Span; N] {
        let mut found = None;
        wait_until(LIMIT, || {
            found = chain(&self.spans(), services, parent);
            found.is_some()
        });
        let Some(chain) = found else {
            panic!("no {services:?} in {:#?}", self.spans());
        };
        let spans = self.spans();
        let of_trace = spans.iter().filter(|span| span.trace == chain[0].trace);
        assert_eq!(of_trace.count(), N, "{spans:#?}");
        chain
    }

    /// Returns the spans that the collector has received so far.
    fn spans(&self) -> Vec<Span> {
        read_spans(&self.collector.log())
    }
}

fn chain<const N: usize>(spans: &[Span], services: [&str; N], parent: &str) -> Option<[Span; N]> {
    let mut chain: Vec<Span> = Vec::new();
    for service in services {
        let next = spans.iter().find(|span| {
            let fits = match chain.last() {
                Some(last) => span.parent == last.id && span.trace == last.trace,
                None => span.parent == parent,
            };
            span.service == service && fits
        });
        chain.push(next?.clone());
    }
    chain.try_into().ok()
}

fn start_collector(folder: &Path, grpc: SocketAddr, http: SocketAddr) -> Service {
    let mut command = Command::new(named("FLUXLIT_TEST_COLLECTOR"));
    command
        .arg("start")
        .args(["--otlp-grpc-endpoint", &grpc.to_string()])
        .args(["--otlp-http-endpoint", &http.to_string()])
        .args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"])
        .args(["--exporter", "blackhole"])
        .current_dir(folder);
    let log = folder.join("collector.log");
    let service = Service::start("the collector", command, &log, |_| {
        get(http, "/", None).is_ok() && connect(grpc).is_ok()
    });
    service.expect("the collector starts")
}

impl Span {
    fn attribute(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads the spans in the log of the collector, which has the form of the OpenTelemetry Collector's debug exporter.
fn read_spans(log: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let (mut service, mut is_in_span) = (String::new(), false);
    for line in log.lines().map(str::trim) {
        if line.starts_with("ResourceSpans #") {
            is_in_span = false;
        } else if line.starts_with("Span #") {
            is_in_span = true;
            spans.push(Span {
                service: service.clone(),
                ..Span::default()
            });
        } else if let Some((key, value)) = line
            .strip_prefix("-> ")
            .and_then(|line| line.split_once(": "))
        {
            // Such as `Str(GET)`.
            let value = value.split_once('(').map_or("", |(_, value)| value);
            let value = value.trim_end_matches(')').to_owned();
            match spans.last_mut() {
                Some(span) if is_in_span => span.attributes.push((key.to_owned(), value)),
                _ if key == "service.name" => service = value,
                _ => {}
            }
        } else if let (true, Some(span), Some((name, value))) =
            (is_in_span, spans.last_mut(), line.split_once(':'))
        {
            let place = match name.trim() {
                "Trace ID" => &mut span.trace,
                "Parent ID" => &mut span.parent,
                "ID" => &mut span.id,
                "Name" => &mut span.name,
                _ => continue,
            };
            value.trim().clone_into(place);
        }
    }
    // The last one may be incomplete, but for the end of the log.
    spans.retain(|span| !span.id.is_empty());
    spans
}

/// For a machine that does other things as well. Envoy sends spans after five seconds.
const LIMIT: Duration = Duration::from_secs(120);
