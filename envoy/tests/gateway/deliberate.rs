//! What the gateway answers differently on purpose, beside what Streamlit would have answered.

use crate::pair::{Generation, HOST, Pair, Place, Shape};
use fluxlit_support::http1::Response;

use crate::support::{connect, exchange};

/// A request for the app under its mount, and the answers.
struct Row {
    what: &'static str,
    method: &'static str,
    /// The whole target.
    target: &'static str,
    /// The status by Starlette and by Tornado.
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

const PATH_ONLY: &str = "Streamlit 1.67 names scheme and host as it sees them";
const ONE_READING: &str = "the next reader may take it for another path";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    //       what                          target                                     1.67  1.45  the gateway
    redirect("the bare mount",             "/apps/my-app",                           (307, 301), "/apps/my-app/", PATH_ONLY),
    redirect("the bare mount, a query",    "/apps/my-app?a=b%2Fc",                   (307, 301), "/apps/my-app/?a=b%2Fc", PATH_ONLY),
    row("outside the mount",        "GET", "/",                                      (404, 404), 404, "said by the gateway"),
    row("nearly the mount",         "GET", "/apps/my-appX",                          (404, 404), 404, "said by the gateway"),
    row("dot segments",             "GET", "/apps/my-app/../../etc/passwd",          (400, 403), 400, ONE_READING),
    row("encoded ones",             "GET", "/apps/my-app/%2e%2e/%2e%2e/etc/passwd",  (400, 403), 400, ONE_READING),
    row("out of the static files",  "GET", "/apps/my-app/static/%2e%2e/_stcore/metrics", (400, 200), 400, ONE_READING),
    row("an encoded slash in them", "GET", "/apps/my-app/..%2f..%2fetc/passwd",      (400, 403), 400, ONE_READING),
    row("an encoded NUL",           "GET", "/apps/my-app/x%00",                      (400, 500), 400, ONE_READING),
    row("TRACE",                  "TRACE", "/apps/my-app/",                          (405, 405), 405, "no method of Streamlit's, or of any proxy's"),
];

#[test]
fn what_differs_from_streamlit_1_67() {
    judge(Generation::Starlette);
}

#[test]
fn what_differs_from_streamlit_1_45() {
    judge(Generation::Tornado);
}

fn judge(generation: Generation) {
    let pair = Pair::start(generation, Shape::Full);
    let mut faults = Vec::new();
    for row in ROWS {
        let direct = send(pair.direct(), row);
        let through = send(pair.through(), row);
        let status = generation.of(row.direct.0, row.direct.1);
        let mut fault =
            |text: String| faults.push(format!("{} ({}): {text}", row.what, row.target));
        if direct.status != status {
            fault(format!("directly {}, not {status}", direct.status));
        }
        if through.status != row.gateway {
            fault(format!(
                "{}, not {}: {}",
                through.status, row.gateway, row.why
            ));
        }
        let location: Vec<&str> = row.location.into_iter().collect();
        if through.values("location") != location {
            fault(format!("to {:?}", through.values("location")));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn send(place: Place<'_>, row: &Row) -> Response {
    let request = format!(
        "{} {} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n",
        row.method, row.target
    );
    exchange(&mut connect(place.address), request.as_bytes(), row.method)
}
