//! Builds the responses that the gateway makes itself.
//!
//! [`LocalReply::assemble`] is the one place where such a response gets its header fields, whether the request was
//! rejected, could not be parsed, or failed upstream. The texts say whose fault it is and nothing about internals. While
//! Streamlit starts, a browser that asks for a page gets one that reloads itself.

use std::borrow::Cow;

use fluxlit_policy::{Exchange, Header, Response};

use crate::http::framing::Length;
use crate::proxy::downstream::DownstreamHead;
use crate::worker::Worker;

/// A response that the gateway makes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalReply {
    pub(crate) status: u16,
    content_type: &'static str,
    fields: Vec<(&'static str, Cow<'static, [u8]>)>,
    body: Cow<'static, [u8]>,
    /// True if the request's id follows the text, so that a user can report it.
    names_request: bool,
}

/// The request that a local reply responds to.
pub(crate) struct RepliedTo<'a> {
    pub(crate) exchange: &'a Exchange,
    pub(crate) request_id: &'a str,
    /// True for HEAD, whose response has no body.
    pub(crate) is_head: bool,
    /// True if no other request is read from an HTTP/1 connection after the reply.
    pub(crate) closes: bool,
}

impl LocalReply {
    /// Creates a plain text response.
    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self::with_body(
            status,
            "text/plain; charset=utf-8",
            format!("{text}\n").into_bytes(),
        )
    }

    /// Creates an error response: the text and the request's id.
    pub(crate) fn failure(status: u16, text: &str) -> Self {
        Self {
            names_request: true,
            ..Self::text(status, text)
        }
    }

    /// Creates a JSON response for load balancers and FluxLit's tools.
    pub(crate) fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::with_body(status, "application/json", value.to_string().into_bytes())
            .with("cache-control", b"no-store".as_slice())
    }

    /// Creates a redirect to a path of the gateway.
    pub(crate) fn redirect(status: u16, location: Vec<u8>) -> Self {
        Self::text(status, "See Location.").with("location", location)
    }

    /// Creates the response while an upstream is not ready: a page for browsers, a line of text for other clients.
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

    /// Creates a response with this body.
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

    /// Adds a field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, [u8]>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Assembles the response, which the policy edits like any other, and passes its head to `begin`. Returns the body, which
    /// is not sent in response to HEAD.
    pub(crate) fn assemble(
        &self,
        worker: &Worker,
        request: &RepliedTo<'_>,
        begin: impl FnOnce(&DownstreamHead<'_>),
    ) -> Cow<'_, [u8]> {
        let body = self.body_for(request.request_id);
        let length = body.len().to_string();
        let mut fields: Vec<Header<'_>> = vec![(b"content-type", self.content_type.as_bytes())];
        let further = self.fields.iter();
        fields.extend(further.map(|(name, value)| (name.as_bytes(), &**value)));
        let response = Response {
            status: self.status,
            headers: &fields,
        };
        let decision = worker.settings.policy.response(request.exchange, &response);
        begin(&DownstreamHead {
            status: self.status,
            reason: canonical_reason(self.status).as_bytes(),
            fields: &fields,
            edits: &decision.edits,
            length: if request.is_head {
                Length::Empty
            } else {
                Length::Exact(body.len() as u64)
            },
            declared: request.is_head.then_some(length.as_bytes()),
            closes: request.closes,
            date: Some(&worker.date),
            request_id: Some(request.request_id),
        });
        body
    }

    fn body_for(&self, request_id: &str) -> Cow<'_, [u8]> {
        if self.names_request {
            let id = format!("Request {request_id}\n");
            Cow::Owned([&*self.body, id.as_bytes()].concat())
        } else {
            Cow::Borrowed(&self.body)
        }
    }
}

fn canonical_reason(status: u16) -> &'static str {
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
<p>The app is starting. This page reloads itself.<br><small>
";
