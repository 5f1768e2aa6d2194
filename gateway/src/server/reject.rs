//! Builds the error response to a request that could not be parsed.
//!
//! Like every local reply, it has the request's id and the policy's edits. The connection is closed after it.

use std::net::IpAddr;
use std::time::SystemTime;

use fluxlit_policy::{Header, Peer, UnparsedRequest};

use crate::http::head::Version;
use crate::observe::HttpVersion;
use crate::proxy::decide::request_id;
use crate::proxy::failure::Rejection;
use crate::proxy::in_flight::record_unparsed;
use crate::proxy::local_reply::{LocalReply, RepliedTo};
use crate::server::http1_response::write_head;
use crate::worker::Worker;

/// The known parts of a request that could not be parsed.
pub(super) struct MalformedRequest<'a> {
    pub(super) peer: IpAddr,
    pub(super) tls: bool,
    /// The client's version of HTTP, `None` if nothing was read.
    pub(super) version: Option<HttpVersion>,
    pub(super) host: Option<&'a [u8]>,
    pub(super) fields: &'a [Header<'a>],
    /// True for HEAD, whose response has no body.
    pub(super) is_head: bool,
}

/// Records the rejection, and returns the whole response as HTTP/1.1.
pub(super) fn reject(
    worker: &Worker,
    request: &MalformedRequest<'_>,
    rejection: Rejection,
) -> Vec<u8> {
    let request_id = request_id(request.fields, SystemTime::now());
    let Rejection { reason, status, .. } = rejection;
    let (peer, version) = (request.peer, request.version);
    record_unparsed(worker, &request_id, peer, version, status, reason);
    let exchange = worker.settings.policy.unparsed_request(&UnparsedRequest {
        peer: Peer::Ip(peer),
        tls: request.tls,
        host: request.host,
        headers: request.fields,
    });
    let replied_to = RepliedTo {
        exchange: &exchange,
        request_id: &request_id,
        is_head: request.is_head,
        closes: true,
    };
    let mut response = Vec::new();
    let reply = LocalReply::from(rejection);
    let body = reply.assemble(worker, &replied_to, |head| {
        write_head(&mut response, head, Version::Http11, false);
    });
    if !request.is_head {
        response.extend_from_slice(&body);
    }
    response
}
