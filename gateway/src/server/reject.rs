//! What is said to whoever has sent nothing that could be planned?
//!
//! The same as in every answer of ours: the request's id, and what the policy adds to final answers. The connection ends
//! behind it.

use std::net::IpAddr;

use fluxlit_policy::{Header, Peer};

use crate::http::framing::Length;
use crate::observe::HttpVersion;
use crate::observe::reject_reason::RejectReason;
use crate::proxy::decide::request_id;
use crate::proxy::downstream::AnswerHead;
use crate::proxy::local_reply::{self, Reply};
use crate::server::http1::put_head;
use crate::worker::Worker;

/// What is known of the request, such as it is.
pub(crate) struct Unplanned<'a> {
    pub(crate) peer: IpAddr,
    pub(crate) tls: bool,
    /// The client's version of HTTP, for logs.
    pub(crate) version: Option<HttpVersion>,
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) fields: &'a [Header<'a>],
    pub(crate) to_head: bool,
}

/// Status, text and label.
pub(crate) type Refusal = (u16, &'static str, RejectReason);

/// The whole answer, which is told of here.
pub(crate) fn refuse(
    worker: &Worker,
    request: &Unplanned<'_>,
    (status, text, label): Refusal,
) -> Vec<u8> {
    let id = request_id(request.fields);
    worker.refused_as(&id, request.peer, request.version, status, label);
    let policy = &worker.settings.policy;
    let exchange = policy
        .request(&fluxlit_policy::Request {
            peer: Peer::Ip(request.peer),
            identity: None,
            is_reentry: false,
            tls: request.tls,
            method: b"GET",
            target: b"/",
            host: request.host,
            headers: request.fields,
        })
        .exchange;
    let reply = Reply::failure(status, text);
    let body = reply.body_for(&id);
    let date = worker.date();
    let mut fields: Vec<Header<'_>> = vec![
        (b"content-type", reply.content_type.as_bytes()),
        (b"date", date.as_bytes()),
    ];
    if status == 503 {
        fields.push((b"retry-after", b"1"));
    }
    let decision = policy.response(
        &exchange,
        &fluxlit_policy::Response {
            status,
            headers: &fields,
        },
    );
    let mut answer = Vec::new();
    put_head(
        &mut answer,
        &AnswerHead {
            status,
            reason: local_reply::reason(status).as_bytes(),
            fields: &fields,
            edits: &decision.edits,
            length: Length::Empty,
            declared: Some(body.len().to_string().as_bytes()),
            is_early: true,
            request_id: Some(&id),
        },
    );
    answer.extend_from_slice(b"connection: close\r\n\r\n");
    if !request.to_head {
        answer.extend_from_slice(&body);
    }
    answer
}
