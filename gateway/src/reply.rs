//! What does the gateway itself answer?
//!
//! Small, and it says whose fault it is without saying anything about the inside. A browser that asks for a page while
//! Streamlit starts gets one that asks again by itself.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

/// An answer of the gateway's own.
pub(crate) fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    with_body(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// A JSON answer, such as load balancers and FluxLit's tools read.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = with_body(status, "application/json", value.to_string());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer while the app cannot be asked: a page for browsers, a line for everybody else.
pub(crate) fn not_ready(request: &HeaderMap, reason: &str) -> Response<Full<Bytes>> {
    let wants_page = request
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let mut response = if wants_page {
        with_body(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/html; charset=utf-8",
            STARTING.to_owned(),
        )
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, reason)
    };
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn with_body(
    status: StatusCode,
    content_type: &'static str,
    body: String,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

const STARTING: &str = "<!doctype html>
<meta charset=utf-8>
<meta http-equiv=refresh content=2>
<title>Starting</title>
<style>body{font:16px system-ui;display:grid;place-items:center;height:90vh;color:#333}</style>
<p>The app is starting. This page asks again by itself.
";
