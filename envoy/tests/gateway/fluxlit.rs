//! Tests the behavior that the gateway shares with FluxLit: endpoints, and the requests that reach the app.
//! `docs/fluxlit.md` explains the differences.

use std::time::Duration;

use fluxlit_cases::Answer;
use fluxlit_envoy::{Gateway, MOUNT};
use fluxlit_support::http1::Response;
use fluxlit_support::upstream::Upstream;

use crate::pair::{Generation, HOST, Pair, Shape};
use crate::support::{connect, exchange, parts, upstream, values};

/// A request, FluxLit's status, our status, and a field or a body of ours. `{mount}` stands for the mount.
type Row = (&'static str, u16, u16, Expected);

enum Expected {
    Body(&'static str),
    Line(&'static str, &'static str),
    Page,
    Anything,
}

use Expected::{Anything, Body, Line, Page};

#[rustfmt::skip]
const ENDPOINTS: &[Row] = &[
    // request                  FluxLit  ours
    ("GET /api/healthz",            200, 200, Body(r#"{"status":"ok"}"#)),
    ("HEAD /api/healthz",           405, 200, Body("")),
    ("POST /api/healthz",           405, 405, Line("allow", "GET, HEAD")),
    ("GET /api/readyz",             200, 200, Body(r#"{"status":"ready","streamlit":"ok"}"#)),
    ("HEAD /api/readyz",            405, 200, Body("")),
    ("POST /api/readyz",            405, 405, Line("allow", "GET, HEAD")),
    ("GET /api",                    404, 404, Body(r#"{"detail":"Not Found"}"#)),
    ("GET /api/",                   404, 404, Body(r#"{"detail":"Not Found"}"#)),
    ("GET /api/nope",               404, 404, Body(r#"{"detail":"Not Found"}"#)),
    ("GET /apix",                   200, 200, Page),
    ("GET /docs",                   307, 307, Line("location", "{mount}/api/docs")),
    ("GET /docs/",                  307, 307, Line("location", "{mount}/api/docs")),
    ("HEAD /docs",                  307, 307, Line("location", "{mount}/api/docs")),
    ("GET /redoc",                  307, 307, Line("location", "{mount}/api/redoc")),
    ("GET /redoc/",                 307, 307, Line("location", "{mount}/api/redoc")),
    ("GET /openapi.json",           307, 307, Line("location", "{mount}/api/openapi.json")),
    ("POST /docs",                  405, 405, Anything),
    ("GET /docsx",                  200, 200, Page),
    ("GET /__fluxlit/debug",        404, 404, Anything),
    ("HEAD /__fluxlit/debug",       200, 404, Anything),
    ("POST /__fluxlit/debug",       405, 404, Anything),
    // FluxLit serves Streamlit's page there if it has no metrics.
    ("GET /__fluxlit/metrics",      200, 404, Anything),
    ("TRACE /",                     405, 405, Anything),
];

#[test]
fn endpoints() {
    let mut failures = Vec::new();
    for shape in [Shape::Root, Shape::Full] {
        let pair = Pair::start(Generation::Starlette, shape);
        let mount = shape.mount();
        for (request, _, status, expected) in ENDPOINTS {
            let answer = send(&pair.gateway, request, mount, "");
            let mut fail = |text: String| failures.push(format!("{shape:?}, {request}: {text}"));
            if answer.status != *status {
                fail(format!("{}, not {status}", answer.status));
            }
            let body = answer.text();
            match expected {
                Body(text) if body != *text => fail(format!("{body:.80}, not {text}")),
                Page if !body.contains("<title>Streamlit</title>") => {
                    fail(format!("{body:.80}, not the page"));
                }
                Line(name, value) => {
                    let value = value.replace("{mount}", mount);
                    if answer.values(name) != [value.as_str()] {
                        fail(format!("{name}: {:?}, not {value}", answer.values(name)));
                    }
                }
                _ => {}
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// A path, and the target that the app receives. The gateway accepts paths with and without the mount, like FluxLit; this
/// is the default.
#[rustfmt::skip]
const PATHS: &[(&str, Option<&str>)] = &[
    ("/strip/me",              Some("/apps/my-app/strip/me")),
    ("/apps/my-app/full/path", Some("/apps/my-app/full/path")),
    ("/",                      Some("/apps/my-app/")),
    ("/apps/my-appX",          Some("/apps/my-app/apps/my-appX")),
    // FluxLit forwards it. Streamlit's page loads its files by relative URLs, so we redirect.
    ("/apps/my-app",           None),
];

#[test]
fn paths_in_both_shapes() {
    let (upstream, gateway) = echo();
    for (path, arrives) in PATHS {
        upstream.answer(&Answer::default());
        let answer = send(&gateway, &format!("GET {path}"), "", "");
        let received = upstream.requests();
        let target = received.first().map(|received| received.target.as_str());
        assert_eq!(target, *arrives, "{path}");
        assert_eq!(
            answer.status,
            if arrives.is_some() { 200 } else { 308 },
            "{path}"
        );
    }
}

/// Fields of an untrusted client, and the values that the app receives.
#[rustfmt::skip]
const HEADERS: &[(&str, &str, &[&str])] = &[
    // name                      the client's                     the app's
    ("cookie",                   "a=b",                           &["a=b"]),
    ("authorization",            "Bearer x",                      &["Bearer x"]),
    ("x-request-id",             "id-1",                          &["id-1"]),
    ("x-forwarded-for",          "9.9.9.9, 10.0.0.1",             &["127.0.0.1"]),
    ("x-forwarded-host",         "evil.example",                  &[HOST]),
    ("x-forwarded-proto",        "https",                         &["http"]),
    ("x-forwarded-prefix",       "/evil",                         &[MOUNT]),
    ("x-forwarded-port",         "444",                           &["80"]),
    ("x-real-ip",                "9.9.9.9",                       &["127.0.0.1"]),
    ("x-remote-user",            "root",                          &[]),
    ("x-forwarded-user",         "root",                          &[]),
    ("forwarded",                "for=9.9.9.9",                   &[]),
    ("x-envoy-external-address", "9.9.9.9",                       &[]),
    ("x-forwarded-scheme",       "https",                         &[]),
    ("proxy-connection",         "keep-alive",                    &[]),
    ("x-drop",                   "named by Connection",           &[]),
    ("x-other",                  "kept",                          &["kept"]),
];

#[test]
fn headers_that_reach_the_app() {
    let (upstream, gateway) = echo();
    upstream.answer(&Answer::default());
    let lines: String = HEADERS
        .iter()
        .map(|(name, value, _)| format!("{name}: {value}\r\n"))
        .collect();
    let answer = send(
        &gateway,
        "GET /x",
        MOUNT,
        &format!("connection: x-drop\r\n{lines}"),
    );
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.values("x-request-id"),
        ["id-1"],
        "the request id is returned"
    );
    let received = upstream.requests();
    let [received] = received.as_slice() else {
        panic!("want one request, got {received:?}");
    };
    assert_eq!(received.host.as_deref(), Some(HOST));
    let arrived = |name| values(received, name);
    for (name, _, expected) in HEADERS {
        assert_eq!(arrived(name), *expected, "{name}");
    }
    assert!(
        arrived("accept-encoding").is_empty(),
        "the client did not send it"
    );
}

/// Starts a gateway in front of an upstream that records what it received.
fn echo() -> (Upstream, Gateway) {
    let upstream = upstream();
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("http://{}{MOUNT}", upstream.address);
    let settings = [
        ("FLUXLIT_STREAMLIT_UPSTREAM", url.as_str()),
        ("FLUXLIT_ROOT_PATH", MOUNT),
    ];
    let gateway = Gateway::start(&parts().gateway, None, settings, folder.path())
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(gateway.wait_until_ready("", Duration::from_secs(60)));
    (upstream, gateway)
}

fn send(gateway: &Gateway, request: &str, mount: &str, lines: &str) -> Response {
    let (method, path) = request.split_once(' ').expect("a method and a path");
    let length = if method == "POST" {
        "content-length: 0\r\n"
    } else {
        ""
    };
    let bytes = format!(
        "{method} {mount}{path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{length}{lines}\r\n"
    );
    exchange(&mut connect(gateway.address), bytes.as_bytes(), method)
}
