//! Tests where the gateway's response differs from Streamlit's on purpose.

use crate::pair::{Generation, HOST, Pair, Server, Shape};
use fluxlit_support::http1::Response;

use crate::support::{connect, exchange};

/// A request for the app under its mount, and the expected statuses.
struct Row {
    what: &'static str,
    method: &'static str,
    /// The whole target.
    target: &'static str,
    /// The status of Starlette and of Tornado.
    direct: (u16, u16),
    gateway: u16,
    location: Option<&'static str>,
    why: &'static str,
}

const fn row(
    what: &'static str,
    method: &'static str,
    target: &'static str,
    direct: (u16, u16),
    gateway: u16,
    why: &'static str,
) -> Row {
    Row {
        what,
        method,
        target,
        direct,
        gateway,
        location: None,
        why,
    }
}

const fn redirect(
    what: &'static str,
    target: &'static str,
    direct: (u16, u16),
    location: &'static str,
    why: &'static str,
) -> Row {
    Row {
        location: Some(location),
        ..row(what, "GET", target, direct, 308, why)
    }
}

const PATH_ONLY: &str = "Streamlit 1.67 sends the scheme and host that it sees";
const ONE_READING: &str = "another server may read it as another path";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    //       what                          target                                     1.67  1.45  the gateway
    redirect("the bare mount",             "/apps/my-app",                           (307, 301), "/apps/my-app/", PATH_ONLY),
    redirect("the bare mount, a query",    "/apps/my-app?a=b%2Fc",                   (307, 301), "/apps/my-app/?a=b%2Fc", PATH_ONLY),
    row("outside the mount",        "GET", "/",                                      (404, 404), 404, "the gateway rejects it"),
    row("nearly the mount",         "GET", "/apps/my-appX",                          (404, 404), 404, "the gateway rejects it"),
    row("dot segments",             "GET", "/apps/my-app/../../etc/passwd",          (400, 403), 400, ONE_READING),
    row("encoded dot segments",    "GET", "/apps/my-app/%2e%2e/%2e%2e/etc/passwd",  (400, 403), 400, ONE_READING),
    row("out of the static files",  "GET", "/apps/my-app/static/%2e%2e/_stcore/metrics", (400, 200), 400, ONE_READING),
    row("an encoded slash in one", "GET", "/apps/my-app/..%2f..%2fetc/passwd",      (400, 403), 400, ONE_READING),
    row("an encoded NUL",           "GET", "/apps/my-app/x%00",                      (400, 500), 400, ONE_READING),
    row("Streamlit's metrics",      "GET", "/apps/my-app/_stcore/metrics",           (200, 200), 404, "only operators need them, on the admin listener"),
    row("an unknown script",        "GET", "/apps/my-app/static/none.js",            (200, 200), 404, "a page in place of a script breaks the app after an upgrade"),
    row("TRACE",                  "TRACE", "/apps/my-app/",                          (405, 405), 405, "neither Streamlit nor a proxy needs it"),
];

#[test]
fn differences_from_streamlit_1_67_are_deliberate() {
    check(Generation::Starlette);
}

#[test]
fn differences_from_streamlit_1_45_are_deliberate() {
    check(Generation::Tornado);
}

fn check(generation: Generation) {
    let pair = Pair::start(generation, Shape::Full);
    let mut failures = Vec::new();
    for row in ROWS {
        let direct = send(pair.direct(), row);
        let through = send(pair.through(), row);
        let status = generation.of(row.direct.0, row.direct.1);
        let mut fail =
            |text: String| failures.push(format!("{} ({}): {text}", row.what, row.target));
        if direct.status != status {
            fail(format!("directly {}, not {status}", direct.status));
        }
        if through.status != row.gateway {
            fail(format!(
                "{}, not {}: {}",
                through.status, row.gateway, row.why
            ));
        }
        let location: Vec<&str> = row.location.into_iter().collect();
        if through.values("location") != location {
            fail(format!("to {:?}", through.values("location")));
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

fn send(server: Server<'_>, row: &Row) -> Response {
    let request = format!(
        "{} {} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n",
        row.method, row.target
    );
    exchange(&mut connect(server.address), request.as_bytes(), row.method)
}
