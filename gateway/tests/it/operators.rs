//! Tests metrics, debug page, access log and traces, and who can see them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::sync::{Arc, mpsc};

use fluxlit_support::certificate::{Certificate, CertificateFiles};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::client::{Client, LIMIT, head, read_body, values};
use crate::support::{Gateway, command, eventually, recording, upstream, write};
use crate::tunnel::{ACCEPT, handshake};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const ADMIN: (&str, &str) = ("FLUXLIT_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:0");
const METRICS: (&str, &str) = ("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "1");

/// Sends a request without fields on a new connection.
fn ask(address: SocketAddr, request: &str) -> crate::client::Response {
    let mut client = Client::new(address);
    client.send(&format!("{request} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    client.response()
}

#[test]
fn internal_pages_are_served_by_the_configured_listener() {
    let (address, seen) = recording(OK);
    let debug = ("FLUXLIT_DEBUG", "1");
    let public = ("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "1");
    for (settings, on_public, on_admin) in [
        (&[][..], [404, 404], None),
        (&[METRICS, debug], [404, 404], None),
        (&[METRICS, debug, public], [200, 200], None),
        (&[METRICS, public], [200, 404], None),
        (&[ADMIN], [404, 404], Some([404, 404])),
        (&[ADMIN, METRICS, debug], [404, 404], Some([200, 200])),
        (&[ADMIN, debug], [404, 404], Some([404, 200])),
    ] {
        let gateway = Gateway::in_front_of(address, settings);
        let statuses = |address| {
            ["/__fluxlit/metrics", "/__fluxlit/debug"]
                .map(|path| ask(address, &format!("GET {path}")).status)
        };
        assert_eq!(statuses(gateway.address), on_public, "{settings:?}");
        assert_eq!(gateway.admin.map(statuses), on_admin, "{settings:?}");
    }
    assert_eq!(
        seen.requests(),
        [""; 0],
        "none of these requests is forwarded"
    );
}

#[test]
fn internal_paths_are_never_forwarded_to_the_app() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[ADMIN, METRICS]);
    let admin = gateway.admin.unwrap();
    for (place, request, status) in [
        (gateway.address, "GET /__fluxlit", 404),
        (gateway.address, "GET /__fluxlit/", 404),
        (gateway.address, "GET /__fluxlit/other", 404),
        (gateway.address, "POST /__fluxlit/metrics", 404),
        (gateway.address, "GET /%5f_fluxlit/metrics", 404),
        (gateway.address, "GET /__fluxli%74/debug", 404),
        (gateway.address, "GET /__fluxlit/metrics?x=/../..", 404),
        (admin, "GET /", 404),
        (admin, "GET /_stcore/health", 404),
        (admin, "GET /api/healthz", 404),
        (admin, "GET /healthz", 200),
        (admin, "GET /readyz", 200),
        (admin, "GET /metrics", 200),
        (admin, "GET /__fluxlit/metrics?x=y", 200),
        (admin, "POST /metrics", 405),
        (admin, "GET /../metrics", 404),
    ] {
        assert_eq!(ask(place, request).status, status, "{request}");
    }
    assert_eq!(seen.requests(), [""; 0]);
    // Similar paths are forwarded to the app.
    assert_eq!(ask(gateway.address, "GET /__fluxlitx").body, "ok");
    assert_eq!(ask(gateway.address, "GET /x/__fluxlit/debug").body, "ok");
}

/// The name of a page of another site can lead to this machine.
#[test]
fn the_debug_page_is_not_shown_under_another_name() {
    let (address, _seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[ADMIN, ("FLUXLIT_DEBUG", "1")]);
    let admin = gateway.admin.unwrap();
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:9901", 200),
        ("127.0.0.1:9901", 200),
        ("[::1]", 200),
        ("[::1]:9901", 200),
        ("probe.example", 403),
        ("localhost.probe.example:9901", 403),
        ("127.0.0.1.probe.example", 403),
    ] {
        let mut client = Client::new(admin);
        client.send(&format!(
            "GET /__fluxlit/debug HTTP/1.1\r\nhost: {host}\r\n\r\n"
        ));
        assert_eq!(client.response().status, status, "{host}");
    }
}

#[test]
fn only_operators_see_the_metrics_of_streamlit() {
    let (address, seen) = recording(OK);
    let full = ("FLUXLIT_ROOT_PATH_SHAPE", "full");
    let gateway = Gateway::in_front_of(
        address,
        &[
            ADMIN,
            ("FLUXLIT_ROOT_PATH", "/apps/my-app"),
            full,
            ("FLUXLIT_ALLOWED_HOSTS", "localhost, app.example"),
        ],
    );
    let admin = gateway.admin.unwrap();
    for (place, request, status) in [
        (gateway.address, "GET /apps/my-app/_stcore/metrics", 404),
        (gateway.address, "OPTIONS /apps/my-app/_stcore/metrics", 404),
        (
            gateway.address,
            "GET /apps/my-app/_stcore/metrics?families=active_sessions",
            404,
        ),
        (gateway.address, "GET /apps/my-app/_stcore%2Fmetric%73", 404),
        (gateway.address, "GET /apps/my-app//_stcore/metrics/", 404),
        (admin, "POST /_stcore/metrics", 404),
        (admin, "GET /_stcore/health", 404),
    ] {
        assert_eq!(ask(place, request).status, status, "{request}");
    }
    assert_eq!(seen.requests(), [""; 0]);
    // Similar paths are the app's.
    assert_eq!(
        ask(gateway.address, "GET /apps/my-app/_stcore/metricsx").body,
        "ok"
    );
    // The host of the admin listener is none of the app's.
    let mut client = Client::new(admin);
    client.send("GET /_stcore/metrics?families=x HTTP/1.1\r\nhost: operators.example\r\n\r\n");
    assert_eq!(client.response().body, "ok");
    let last = seen.last();
    assert_eq!(last.head[0], "GET /_stcore/metrics?families=x HTTP/1.1");
    assert_eq!(last.values("host"), [address.to_string()]);
}

#[test]
fn the_metrics_of_streamlit_are_open_if_internal_pages_are() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "1")]);
    assert_eq!(ask(gateway.address, "GET /_stcore/metrics").body, "ok");
    assert_eq!(seen.requests().len(), 1);
}

/// Returns each series with its value.
pub(crate) fn scrape(admin: SocketAddr) -> HashMap<String, f64> {
    let answer = ask(admin, "GET /metrics");
    assert!(
        answer.values("content-type")[0].starts_with("application/openmetrics-text")
            || answer.values("content-type")[0].starts_with("text/plain"),
        "{answer:?}"
    );
    answer
        .body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn metrics_count_requests_and_connections() {
    let address = upstream(|received, stream| {
        let request = &received.head[0];
        if request.contains("/_stcore/stream") {
            write(
                stream,
                &format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-accept: {ACCEPT}\r\n\r\n"
                ),
            );
            let _ = stream.read(&mut [0]);
            return false;
        }
        if request.contains("/broken") {
            return false;
        }
        let Ok((body, _)) = read_body(&received.head, stream) else {
            return false;
        };
        write(
            stream,
            if body.is_empty() {
                OK
            } else {
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
            },
        );
        true
    });
    let gateway = Gateway::in_front_of(address, &[ADMIN, METRICS]);
    let admin = gateway.admin.unwrap();
    let before = scrape(admin);
    let mut client = gateway.client();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 200),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabcde",
            404,
        ),
        ("GET /api/x HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        ("BREW / HTTP/1.1\r\nhost: a\r\n\r\n", 200),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("GET /broken HTTP/1.1\r\nhost: a\r\n\r\n", 502),
    ] {
        client.send(request);
        assert_eq!(client.response().status, status, "{request:?}");
    }
    let mut websocket = gateway.client();
    websocket.send(&handshake(""));
    assert_eq!(websocket.response_head().unwrap().status, 101);
    let is = |name: &str, expected: f64| {
        let name = format!("fluxlit_gateway_{name}");
        let mut found = None;
        let grown = eventually(|| {
            let value = scrape(admin).get(&name).copied();
            found = value.map(|value| value - before.get(&name).unwrap_or(&0.0));
            found == Some(expected)
        });
        assert!(grown, "{name}: {found:?} is not {expected}");
    };
    is("websockets_active", 1.0);
    drop(websocket);
    is("websockets_active", 0.0);
    for (name, expected) in [
        (
            r#"requests_total{dispatch="streamlit",method_kind="GET"}"#,
            3.0,
        ),
        (
            r#"requests_total{dispatch="streamlit",method_kind="POST"}"#,
            1.0,
        ),
        (
            r#"requests_total{dispatch="streamlit",method_kind="OTHER"}"#,
            1.0,
        ),
        (
            r#"requests_total{dispatch="streamlit",method_kind="WEBSOCKET"}"#,
            1.0,
        ),
        (
            r#"responses_total{dispatch="streamlit",status_class="2xx"}"#,
            3.0,
        ),
        (
            r#"responses_total{dispatch="streamlit",status_class="4xx"}"#,
            1.0,
        ),
        (
            r#"responses_total{dispatch="streamlit",status_class="5xx"}"#,
            1.0,
        ),
        (
            r#"responses_total{dispatch="streamlit",status_class="1xx"}"#,
            1.0,
        ),
        (r#"received_bytes_total{dispatch="streamlit"}"#, 5.0),
        (
            r#"request_duration_seconds_count{dispatch="streamlit"}"#,
            6.0,
        ),
        (r#"upstream_errors_total{kind="broke"}"#, 1.0),
        (r#"refused_total{reason="trace"}"#, 1.0),
        ("websockets_total", 1.0),
    ] {
        is(name, expected);
    }
    let after = scrape(admin);
    for name in [
        r#"fluxlit_gateway_upstream_ready{upstream="streamlit"}"#,
        "process_resident_memory_bytes",
    ] {
        assert!(
            after.get(name).is_some_and(|value| *value >= 1.0),
            "{name}: {:?}",
            after.keys()
        );
    }
    let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\",commit=\"");
    assert!(
        after.keys().any(|series| series.contains(version)),
        "{version}"
    );
    assert!(
        after.keys().all(|series| !series.contains("BREW")),
        "a client cannot add a series"
    );
}

#[test]
fn the_debug_page_has_no_secrets() {
    let (address, _) = recording(OK);
    let gateway = Gateway::in_front_of(
        address,
        &[
            ADMIN,
            ("FLUXLIT_DEBUG", "1"),
            ("FLUXLIT_GATEWAY_ALLOWED_ORIGINS", "https://portal.example"),
            ("FLUXLIT_LOG_SENSITIVE_QUERY_KEYS", "hunter2"),
        ],
    );
    ask(gateway.address, "GET /page?token=hunter2");
    let admin = gateway.admin.unwrap();
    let recent = |answer: &crate::client::Response| {
        let page: Value = serde_json::from_str(&answer.body).unwrap();
        let seen = page["recent_dispatches"].as_array().unwrap();
        seen.iter()
            .any(|seen| seen["path"] == "/page" && seen["dispatch"] == "streamlit")
    };
    let mut answer = None;
    // A request is recorded after its response was sent.
    assert!(eventually(|| {
        let page = ask(admin, "GET /__fluxlit/debug");
        recent(answer.insert(page))
    }));
    let answer = answer.unwrap();
    assert_eq!(answer.values("content-type"), ["application/json"]);
    assert_eq!(answer.values("cache-control"), ["no-store"]);
    assert!(!answer.body.contains("hunter2"), "{}", answer.body);
    let page: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(page["fluxlit_debug"], true);
    assert_eq!(page["settings"]["debug"], true);
    assert_eq!(page["settings"]["grace_period_s"], 10.0);
    assert_eq!(page["gateway"]["api_prefix"], "/api");
    assert_eq!(
        page["settings"]["gateway_allowed_origins"],
        "https://portal.example"
    );
}

#[test]
fn the_debug_page_shows_the_urls_for_the_client_that_asks() {
    let (address, _) = recording(OK);
    let settings = [
        ADMIN,
        ("FLUXLIT_DEBUG", "1"),
        ("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "1"),
        ("FLUXLIT_ROOT_PATH", "/apps/my-app"),
        ("FLUXLIT_TRUST_PROXY", "1"),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
    ];
    let gateway = Gateway::in_front_of(address, &settings);
    let fields = "host: localhost:8000\r\nx-forwarded-proto: https\r\nx-forwarded-host: portal.example.com\r\n";
    let page = |address, path: &str, fields: &str| {
        let mut client = Client::new(address);
        client.send(&format!("GET {path} HTTP/1.1\r\n{fields}\r\n"));
        let response = client.response();
        let page: Value = serde_json::from_str(&response.body).expect("JSON");
        page["public_urls"].clone()
    };
    let admin = gateway.admin.unwrap();
    for (address, path) in [
        (gateway.address, "/apps/my-app/__fluxlit/debug"),
        (gateway.address, "/__fluxlit/debug"),
        (admin, "/__fluxlit/debug"),
    ] {
        let urls = page(address, path, fields);
        assert_eq!(
            urls["app"], "https://portal.example.com/apps/my-app",
            "{path}"
        );
        assert_eq!(
            urls["docs"],
            "https://portal.example.com/apps/my-app/api/docs"
        );
        let urls = page(address, path, "host: 127.0.0.1:8000\r\n");
        let websocket = "ws://127.0.0.1:8000/apps/my-app/_stcore/stream";
        assert_eq!(urls["websocket"], websocket, "{path}");
    }

    // A configured URL takes precedence over the request, and its mount follows a host without a path.
    let public = ("FLUXLIT_PUBLIC_BASE_URL", "https://public.example.com");
    let gateway = Gateway::in_front_of(address, &[settings.as_slice(), &[public]].concat());
    let urls = page(gateway.address, "/apps/my-app/__fluxlit/debug", fields);
    assert_eq!(urls["api"], "https://public.example.com/apps/my-app/api");
}

#[test]
fn an_untrusted_proxy_and_an_unconfined_cookie_are_logged_once() {
    let (address, _) = recording(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: __Host-a=1; Secure; Path=/\r\n\r\nok",
    );
    let gateway = Gateway::in_front_of(address, &[("FLUXLIT_ROOT_PATH", "/apps/my-app")]);
    let warnings = [
        "forwarded headers of 127.0.0.1 are ignored",
        "the app sets a __Host- cookie",
    ];
    assert!(!gateway.log().contains(warnings[0]));
    for _ in 0..3 {
        gateway.send(
            "GET /apps/my-app/ HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.7\r\nconnection: close\r\n\r\n",
        );
    }
    for warning in warnings {
        assert!(eventually(|| gateway.log().contains(warning)), "{warning}");
        assert_eq!(gateway.log().matches(warning).count(), 1, "{warning}");
    }
}

#[test]
fn an_ignored_prefix_of_a_trusted_proxy_is_counted_and_logged_once() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(
        address,
        &[
            ADMIN,
            METRICS,
            ("FLUXLIT_TRUST_PROXY", "1"),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
            ("FLUXLIT_PREFIX_FROM_HEADER", "1"),
        ],
    );
    let warning = "an X-Forwarded-Prefix of a trusted peer is ignored";
    for (prefix, received) in [
        (
            "x-forwarded-prefix: /apps/my-app/\r\n",
            &["/apps/my-app"][..],
        ),
        ("x-forwarded-prefix: apps\r\n", &[]),
        ("x-forwarded-prefix: /a\r\nx-forwarded-prefix: /b\r\n", &[]),
    ] {
        gateway.send(&format!(
            "GET / HTTP/1.1\r\nhost: a\r\n{prefix}connection: close\r\n\r\n"
        ));
        assert_eq!(seen.last().values("x-forwarded-prefix"), received);
    }
    assert!(eventually(|| gateway.log().contains(warning)));
    assert_eq!(gateway.log().matches(warning).count(), 1);
    let metrics = ask(gateway.admin.unwrap(), "GET /metrics").body;
    assert!(
        metrics.contains("fluxlit_gateway_prefix_ignored_total 2"),
        "{metrics}"
    );
}

/// Starts a gateway with an access log.
pub(crate) fn logging(
    address: SocketAddr,
    settings: &[(&str, &str)],
) -> (Gateway, BufReader<ChildStdout>) {
    let upstream = format!("http://{address}");
    let mut command = command(
        &[
            ("FLUXLIT_STREAMLIT_UPSTREAM", upstream.as_str()),
            ("FLUXLIT_ENABLE_GATEWAY_ACCESS_LOG", "1"),
        ],
        &[],
    );
    command
        .envs(settings.iter().copied())
        .stdout(Stdio::piped());
    let mut gateway = Gateway::run(command);
    let log = BufReader::new(gateway.child.stdout.take().unwrap());
    assert!(eventually(|| ask(gateway.address, "GET /api/readyz")
        .status
        == 200));
    (gateway, log)
}

/// Returns the next line of the log that contains a path.
pub(crate) fn line_about(log: &mut impl BufRead, path: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "the log has ended");
        if line.contains(path) {
            return line;
        }
    }
}

/// The log has the status that was sent, not that of the upstream.
#[test]
fn the_status_that_was_sent_is_logged() {
    let (address, _) =
        recording("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nZZ\r\n");
    let (gateway, mut log) = logging(address, &[]);
    assert_eq!(ask(gateway.address, "GET /broken").status, 502);
    let line = line_about(&mut log, "/broken");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["status"], 502, "{line}");
    assert_eq!(line["ending"], "upstream_broke", "{line}");
}

#[test]
fn requests_are_logged_without_secrets() {
    let (address, _) = recording(OK);
    let request = "GET /page?x=1&token=hunter2&fluxlit_sid=hunter2&mine=hunter2&y=2 HTTP/1.1\r\nhost: portal.example\r\n\
                   x-request-id: abc\r\ncookie: hunter2\r\nauthorization: hunter2\r\n\r\n";
    let query = "x=1&token=<redacted>&fluxlit_sid=<redacted>&mine=<redacted>&y=2";
    let own = ("FLUXLIT_LOG_SENSITIVE_QUERY_KEYS", "mine");

    let (gateway, mut log) = logging(address, &[own]);
    let mut client = gateway.client();
    client.send(request);
    client.response();
    let line = line_about(&mut log, "/page");
    assert!(!line.contains("hunter2"), "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    for (name, value) in [
        ("request_id", "abc"),
        ("fluxlit_dispatch", "streamlit"),
        ("http_method_or_type", "GET"),
        ("path", "/page"),
        ("query", query),
        ("version", "1.1"),
        ("host", "portal.example"),
        ("ending", "complete"),
        ("client", "127.0.0.1"),
        ("peer", "127.0.0.1"),
    ] {
        assert_eq!(line[name], value, "{name} in {line}");
    }
    assert_eq!(line["status"], 200);
    assert_eq!(line["sent_bytes"], 2);
    assert!(
        line["upstream_ms"].is_number() && line["duration_ms"].is_number(),
        "{line}"
    );
    // Invalid requests are logged as well.
    client.send("NONSENSE\r\n\r\n");
    client.response();
    let refused: Value = serde_json::from_str(&line_about(&mut log, "bad_head")).unwrap();
    assert_eq!(
        (&refused["status"], &refused["ending"]),
        (&Value::from(400), &Value::from("refused"))
    );

    let (gateway, mut log) = logging(
        address,
        &[own, ("FLUXLIT_GATEWAY_ACCESS_LOG_FORMAT", "text")],
    );
    let mut client = gateway.client();
    client.send(request);
    client.response();
    let line = line_about(&mut log, "/page");
    assert!(!line.contains("hunter2"), "{line}");
    for part in [
        "status=200",
        "path=\"/page\"",
        &format!("query=\"{query}\""),
        "request_id=\"abc\"",
    ] {
        assert!(
            line.contains(&format!(" {part} ")),
            "`{part}` is missing in {line}"
        );
    }
}

#[test]
fn the_log_says_which_side_ended_a_request() {
    let (arrived, arrival) = mpsc::channel();
    let address = upstream(move |received, stream| {
        if received.head[0].contains("/broken") {
            return false;
        }
        arrived.send(()).unwrap();
        let _ = stream.read(&mut [0]);
        false
    });
    let (gateway, mut log) = logging(address, &[("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", "2")]);
    let mut client = gateway.client();
    client.send("GET /left HTTP/1.1\r\nhost: a\r\n\r\n");
    arrival.recv().unwrap();
    drop(client);
    let ended = |log: &mut BufReader<ChildStdout>, path: &str| {
        let line: Value = serde_json::from_str(&line_about(log, path)).unwrap();
        (
            line["ending"].as_str().unwrap().to_owned(),
            line["status"].as_u64().unwrap(),
        )
    };
    assert_eq!(ended(&mut log, "/left"), ("client_left".to_owned(), 0));
    for (path, ending, status) in [
        ("/broken", "upstream_broke", 502),
        ("/silent", "upstream_timeout", 504),
    ] {
        assert_eq!(ask(gateway.address, &format!("GET {path}")).status, status);
        assert_eq!(
            ended(&mut log, path),
            (ending.to_owned(), u64::from(status))
        );
    }
}

/// Starts a collector that reports each export; with files of a certificate, over TLS.
fn collector(files: Option<&CertificateFiles>) -> (SocketAddr, mpsc::Receiver<Value>) {
    let tls = files.map(|files| {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
        let config = ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate],
                PrivateKeyDer::from_pem_file(&files.key).unwrap(),
            );
        Arc::new(config.unwrap())
    });
    let (sender, receiver) = mpsc::channel();
    let serve = move |stream: &mut BufReader<TcpStream>| match &tls {
        Some(tls) => {
            let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
            let stream = StreamOwned::new(connection, stream.get_ref().try_clone().unwrap());
            collect(&mut BufReader::new(stream), &sender);
        }
        None => collect(stream, &sender),
    };
    (fluxlit_support::upstream::serve(serve).unwrap(), receiver)
}

fn collect(stream: &mut BufReader<impl Read + Write>, exports: &mpsc::Sender<Value>) {
    loop {
        let head = head(stream);
        if head.is_empty() {
            return;
        }
        assert_eq!(head[0], "POST /v1/traces HTTP/1.1");
        assert_eq!(values(&head, "content-type"), ["application/json"]);
        let (body, _) = read_body(&head, stream).unwrap();
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        stream.get_mut().write_all(response).unwrap();
        exports.send(serde_json::from_str(&body).unwrap()).unwrap();
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[test]
fn a_trace_is_forwarded_or_started() {
    let (address, seen) = recording(OK);
    let (collector, _exports) = collector(None);
    let endpoint = format!("http://{collector}");
    let sent = format!("00-{TRACE}-{PARENT}-01");
    let records = [("FLUXLIT_OTLP_ENDPOINT", endpoint.as_str())];
    for (settings, fields, passes) in [
        // A gateway without a collector is not part of the trace.
        (
            &[][..],
            format!("traceparent: {sent}\r\ntracestate: a=b\r\n"),
            true,
        ),
        (
            &records,
            format!("traceparent: {sent}\r\ntracestate: a=b\r\n"),
            false,
        ),
        (
            &records,
            "traceparent: nonsense\r\ntracestate: a=b\r\n".to_owned(),
            false,
        ),
        (&records, String::new(), false),
    ] {
        let gateway = Gateway::in_front_of(address, settings);
        let mut client = gateway.client();
        client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
        client.response();
        let received = seen.last();
        let parents = received.values("traceparent");
        assert_eq!(parents.len(), 1, "{received:?}");
        assert_eq!(parents[0] == sent, passes, "{fields:?}: {parents:?}");
        let is_known = fields.contains(TRACE);
        assert_eq!(
            parents[0].contains(TRACE),
            is_known,
            "{fields:?}: {parents:?}"
        );
        assert_eq!(
            received.values("tracestate").len(),
            usize::from(is_known),
            "{received:?}"
        );
    }
    // An invalid `traceparent` is removed.
    let gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\ntraceparent: x\r\ntracestate: a=b\r\n\r\n");
    client.response();
    for name in ["traceparent", "tracestate"] {
        assert_eq!(seen.last().values(name), [""; 0]);
    }
}

#[test]
fn spans_reach_the_collector() {
    let (address, seen) = recording(OK);
    let (collector, exports) = collector(None);
    let endpoint = format!("http://{collector}");
    let gateway = Gateway::in_front_of(
        address,
        &[
            ("FLUXLIT_OTLP_ENDPOINT", &endpoint),
            ("FLUXLIT_OTLP_SERVICE_NAME", "my-app"),
        ],
    );
    let mut client = gateway.client();
    client.send(&format!(
        "GET /page?token=hunter2 HTTP/1.1\r\nhost: portal.example\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\n\r\n"
    ));
    client.response();
    let sent = seen.last().values("traceparent")[0].to_owned();
    loop {
        let export = exports.recv_timeout(LIMIT).expect("the span");
        let resource = &export["resourceSpans"][0];
        assert_eq!(
            resource["resource"]["attributes"][0]["value"]["stringValue"],
            "my-app"
        );
        let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
        let Some(span) = spans.iter().find(|span| span["traceId"] == TRACE) else {
            continue;
        };
        assert_eq!(span["parentSpanId"], PARENT);
        assert_eq!(sent.split('-').nth(2), span["spanId"].as_str());
        let text = span.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        let attribute = |key: &str| {
            let attributes = span["attributes"].as_array().unwrap();
            attributes
                .iter()
                .find(|attribute| attribute["key"] == key)
                .map(|attribute| attribute["value"].clone())
        };
        assert_eq!(attribute("url.path").unwrap()["stringValue"], "/page");
        assert_eq!(
            attribute("server.address").unwrap()["stringValue"],
            "portal.example"
        );
        assert_eq!(
            attribute("http.response.status_code").unwrap()["intValue"],
            "200"
        );
        return;
    }
}

#[test]
fn spans_reach_a_collector_over_https() {
    let (address, _) = recording(OK);
    let folder = tempfile::tempdir().unwrap();
    let files = Certificate::create_files(folder.path(), &["127.0.0.1"]).unwrap();
    let (collector, exports) = collector(Some(&files));
    let endpoint = format!("https://{collector}");
    let gateway = |trusted: &Path| {
        Gateway::in_front_of(
            address,
            &[
                ("FLUXLIT_OTLP_ENDPOINT", &endpoint),
                ("SSL_CERT_FILE", trusted.to_str().unwrap()),
            ],
        )
    };

    let _trusting = gateway(&files.certificate);
    let export = exports.recv_timeout(LIMIT).expect("a span");
    assert!(export["resourceSpans"][0]["scopeSpans"][0]["spans"].is_array());

    let other = tempfile::tempdir().unwrap();
    let other = Certificate::create_files(other.path(), &["127.0.0.1"]).unwrap();
    let distrusting = gateway(&other.certificate);
    assert!(eventually(|| distrusting
        .log()
        .contains("spans are dropped")));
}

/// The listener of the app could be asked by a proxy on the same machine.
#[test]
fn debug_mode_has_a_listener_of_its_own_on_the_loopback_address() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.py"), "").unwrap();
    let streamlit = folder.path().join("streamlit");
    std::fs::write(&streamlit, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&streamlit, permissions).unwrap();
    for arguments in [&["dev", "app.py"][..], &["run", "app.py", "--debug"]] {
        let command = || {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"));
            command
                .args(arguments)
                .args(["--host", "0.0.0.0", "--port", "0"])
                .env("FLUXLIT_STREAMLIT_COMMAND", &streamlit)
                .env("NO_COLOR", "1")
                .current_dir(folder.path());
            command
        };
        let page = "the debug page is at http://";
        let debug = "/__fluxlit/debug";
        let gateway = Gateway::run(command());
        let line = || {
            let log = gateway.log();
            let line = log.lines().find(|line| line.contains(page))?;
            Some(line.to_owned())
        };
        assert!(eventually(|| line().is_some()), "{}", gateway.log());
        let line = line().unwrap();
        let (_, url) = line.split_once(page).unwrap();
        let address: SocketAddr = url.strip_suffix(debug).unwrap().parse().unwrap();
        assert!(address.ip().is_loopback(), "{address}");
        assert_eq!(ask(address, "GET /__fluxlit/debug").status, 200);
        let port = gateway.address.port();
        let public = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(ask(public, "GET /__fluxlit/debug").status, 404);
        // An address that the operator has chosen takes precedence.
        let mut command = command();
        command.env(ADMIN.0, "127.0.0.2:0");
        let gateway = Gateway::run(command);
        assert!(gateway.admin.unwrap().to_string().starts_with("127.0.0.2:"));
    }
}
