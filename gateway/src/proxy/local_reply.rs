//! What does the gateway itself answer?
//!
//! Small, and it says whose fault it is without saying anything about the inside. A browser that asks for a page while
//! Streamlit starts gets one that asks again by itself.

use std::borrow::Cow;

/// An answer of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) fields: Vec<(&'static str, Cow<'static, [u8]>)>,
    pub(crate) body: Cow<'static, [u8]>,
    /// Whether the sentence of the body is followed by the request's id, for whoever is asked about it.
    names_request: bool,
}

impl Reply {
    /// A sentence.
    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self::with_body(
            status,
            "text/plain; charset=utf-8",
            format!("{text}\n").into_bytes(),
        )
    }

    /// A failure, with the request's id behind the sentence that says whose it is.
    pub(crate) fn failure(status: u16, text: &str) -> Self {
        Self {
            names_request: true,
            ..Self::text(status, text)
        }
    }

    /// A JSON answer, such as load balancers and FluxLit's tools read.
    pub(crate) fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::with_body(status, "application/json", value.to_string().into_bytes())
            .with("cache-control", b"no-store".as_slice())
    }

    /// A redirect to a path of our own.
    pub(crate) fn redirect(status: u16, location: Vec<u8>) -> Self {
        Self::text(status, "See Location.").with("location", location)
    }

    /// The answer while the app cannot be asked: a page for browsers, a line for everybody else.
    pub(crate) fn not_ready(wants_page: bool, text: &str) -> Self {
        let reply = if wants_page {
            Self {
                names_request: true,
                ..Self::with_body(503, "text/html; charset=utf-8", STARTING.as_bytes())
            }
        } else {
            Self::failure(503, text)
        };
        reply
            .with("retry-after", b"2".as_slice())
            .with("cache-control", b"no-store".as_slice())
    }

    /// An answer with this body.
    pub(crate) fn with_body(
        status: u16,
        content_type: &'static str,
        body: impl Into<Cow<'static, [u8]>>,
    ) -> Self {
        Self {
            status,
            content_type,
            fields: Vec::new(),
            body: body.into(),
            names_request: false,
        }
    }

    /// With one more field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, [u8]>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The body of the answer to the request with this id.
    pub(crate) fn body_for(&self, request_id: &str) -> Cow<'_, [u8]> {
        if self.names_request {
            let id = format!("Request {request_id}\n");
            Cow::Owned([&*self.body, id.as_bytes()].concat())
        } else {
            Cow::Borrowed(&self.body)
        }
    }
}

/// The reason phrase of a status that the gateway answers with.
pub(crate) fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default()
}

const STARTING: &str = "<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content=\"width=device-width\">
<meta http-equiv=refresh content=2>
<title>Starting</title>
<style>body{font:16px system-ui;display:grid;place-items:center;height:90vh;color-scheme:light dark}</style>
<p>The app is starting. This page asks again by itself.<br><small>
";
