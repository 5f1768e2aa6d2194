//! Decides how to handle a request: reject it, respond to it here, or forward it.
//!
//! The policy decides first. If the request is forwarded, the whole head of the upstream request is written here, so that
//! the client's head need not be kept.

use std::borrow::Cow;
use std::time::Instant;

use fluxlit_policy::{
    Action, Exchange, Header, Peer, Reason, Reply, Request, Scheme, claims_https, is_asset,
    is_stream,
};
use serde_json::json;
use uuid::{NoContext, Timestamp, Uuid};

use crate::http::framing::Length;
use crate::http::head::{all, only};
use crate::observe::reject_reason::RejectReason;
use crate::observe::upstream::Upstream;
use crate::observe::{Dispatch, HttpVersion};
use crate::proxy::downstream::{REQUEST_ID, replaces};
use crate::proxy::failure::Rejection;
use crate::proxy::handshake::{check_handshake, check_size};
use crate::proxy::internal::{admin_reply, internal_reply};
use crate::proxy::local_reply::LocalReply;
use crate::proxy::request::{Forward, Incoming, Plan, RequestInfo, Step};
use crate::proxy::upstream_head::{TRACEPARENT, write_head};
use crate::worker::Worker;

/// Decides how to handle a request.
pub(crate) fn decide(worker: &Worker, request: &Incoming<'_>) -> Plan {
    let decision = worker.settings.policy.request(&Request {
        peer: Peer::Ip(request.peer),
        identity: None,
        is_reentry: false,
        tls: request.tls,
        method: request.method,
        target: request.target,
        host: request.host,
        headers: request.fields,
    });
    let mut exchange = decision.exchange;
    if exchange.forwarded_ignored {
        let is_http = exchange.effective.scheme == Scheme::Http;
        let claims_https = || is_http && claims_https(request.fields);
        worker
            .shared
            .warnings
            .forwarded_ignored(request.peer, claims_https);
    }
    if !exchange.peer_trusted {
        let groups = decision.record.removed().map(|(group, _)| group);
        worker.observer.counters.forwarded_ignored(groups);
    }
    if decision.record.prefix_ignored {
        worker.observer.counters.prefix_ignored();
        worker.shared.warnings.prefix_ignored();
    }
    let (trace, propagation) = worker.observer.trace(all(request.fields, TRACEPARENT));
    let mut info = RequestInfo {
        started: Instant::now(),
        request_id: match &decision.action {
            // The settings say that the client's line must not reach the app.
            Action::Forward(forward) if replaces(&forward.edits, REQUEST_ID) => request_id(&[]),
            _ => request_id(request.fields),
        },
        dispatch: Dispatch::Gateway,
        method: match request.method {
            b"GET" => Cow::Borrowed(b"GET"),
            other => Cow::Owned(other.to_vec()),
        },
        target: request.target.into(),
        version: request.version,
        is_websocket: request.is_websocket,
        peer: request.peer,
        trust: decision.record.trust,
        is_head: request.method == b"HEAD",
        trace,
        propagation,
    };
    let forwarded = check_head(worker, request).map_err(Local::from);
    let forwarded = forwarded.and_then(|()| match decision.action {
        action if !request.is_admin => forward(worker, request, action, &mut exchange, &mut info),
        // The paths of the admin listener are not the policy's, but an invalid Host is invalid here as well.
        Action::Reply(reply) if reply.reason == Reason::BadHost => {
            Err(Local::Reply(policy_reply(request, reply)))
        }
        Action::Reply(_) | Action::Forward(_) => {
            Err(Local::Reply(admin_reply(worker, request, &exchange)))
        }
    });
    let step = match forwarded {
        Ok(forward) => {
            // Not for the gateway's own paths, which probes use without the mount.
            if let Some(arrived) = decision.record.arrived {
                let mount = worker.settings.policy.mount();
                worker.shared.warnings.arrived(arrived, mount);
            }
            Step::Forward(forward)
        }
        Err(local) => {
            let of_policy = decision.record.reply_reason.map(RejectReason::Policy);
            local.into_step(request, of_policy)
        }
    };
    Plan {
        info,
        exchange,
        step,
    }
}

/// A request that is not forwarded.
enum Local {
    Rejected(Rejection),
    Reply(LocalReply),
}

impl From<Rejection> for Local {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl Local {
    fn into_step(self, request: &Incoming<'_>, of_policy: Option<RejectReason>) -> Step {
        let (reply, reason) = match self {
            // In response to an extended CONNECT, any 2xx would open the WebSocket, RFC 8441 §5.
            Self::Reply(reply)
                if request.is_websocket
                    && request.version == HttpVersion::Http2
                    && (200..300).contains(&reply.status) =>
            {
                let text = "No WebSocket is served here.";
                let rejection = Rejection::new(RejectReason::Handshake, 400, text);
                (rejection.into(), Some(RejectReason::Handshake))
            }
            Self::Reply(reply) => (reply, of_policy),
            Self::Rejected(rejection) => {
                let reason = rejection.reason;
                (rejection.into(), Some(reason))
            }
        };
        Step::Respond { reply, reason }
    }
}

fn forward(
    worker: &Worker,
    request: &Incoming<'_>,
    action: Action,
    exchange: &mut Exchange,
    info: &mut RequestInfo,
) -> Result<Forward, Local> {
    let settings = &worker.settings;
    let mut forward = match action {
        Action::Forward(forward) => forward,
        Action::Reply(reply) => return Err(Local::Reply(policy_reply(request, reply))),
    };
    if request.framing.expects_other {
        let text = "This expectation cannot be met.";
        return Err(Rejection::new(RejectReason::Expectation, 417, text).into());
    }
    if let Some(reply) = internal_reply(worker, request, &forward.stripped_target, exchange) {
        return Err(Local::Reply(reply));
    }
    let upstream = match settings.api.sub_app.strip(&forward.stripped_target) {
        Some(_) if settings.api.upstream.is_none() => {
            let detail = json!({"detail": "Not Found"});
            return Err(Local::Reply(LocalReply::json(404, &detail)));
        }
        Some(_) => Upstream::Api,
        None => Upstream::Streamlit,
    };
    info.dispatch = match upstream {
        Upstream::Api => Dispatch::Api,
        Upstream::Streamlit => Dispatch::Streamlit,
    };
    let max = settings.limits.body_bytes;
    if let Length::Exact(length) = request.length
        && max > 0
        && length > max
    {
        return Err(Rejection::body_too_large(max).into());
    }
    if upstream == Upstream::Api {
        settings
            .policy
            .enter_sub_app(&settings.api.sub_app, &mut forward, exchange);
    }
    let handshake = if request.is_websocket {
        let handshake = check_handshake(worker, request, upstream, &mut forward, exchange)?;
        Some(handshake)
    } else {
        None
    };
    let is_get = request.method == b"GET" && !request.is_websocket;
    if is_get && upstream == Upstream::Streamlit && is_stream(&forward.stripped_target) {
        worker.observer.counters.plain_get_on_stream();
        worker.shared.warnings.plain_get_on_stream(request.peer);
    }
    let is_asset = upstream == Upstream::Streamlit && is_asset(&forward.stripped_target);
    let head = write_head(
        worker,
        request,
        &forward.edits,
        info,
        upstream,
        handshake.as_ref(),
    );
    if handshake.is_some() && upstream == Upstream::Streamlit {
        let longest = check_size(&head, &settings.limits)?;
        worker.observer.counters.header_line(longest);
        let max = settings.limits.websocket_line_bytes;
        worker.shared.warnings.header_line(longest, max);
    }
    Ok(Forward {
        upstream,
        head,
        length: request.length,
        expects_continue: request.expects_continue(),
        is_idempotent: matches!(
            request.method,
            b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE"
        ),
        accept: handshake.map(|handshake| handshake.accept),
        wants_page: request.method == b"GET"
            && all(request.fields, b"accept")
                .any(|accept| accept.windows(9).any(|window| window == b"text/html")),
        is_asset,
    })
}

fn check_head(worker: &Worker, request: &Incoming<'_>) -> Result<(), Rejection> {
    // RFC 9112 §3.2 and RFC 9113 §8.3.1: exactly one Host; only HTTP/1.0 requests may omit it.
    if request.hosts > 1 || (request.version != HttpVersion::Http10 && request.hosts == 0) {
        let text = "A request must have exactly one Host.";
        return Err(Rejection::new(RejectReason::HostLines, 400, text));
    }
    if request.method == b"TRACE" {
        let text = "TRACE is not allowed here.";
        return Err(Rejection::new(RejectReason::Trace, 405, text));
    }
    if request.target.len() > worker.settings.limits.target_bytes {
        // The policy has its own limit with the same reason.
        let reason = RejectReason::Policy(Reason::TargetTooLong);
        return Err(Rejection::new(
            reason,
            414,
            "The request target is too long.",
        ));
    }
    Ok(())
}

fn policy_reply(request: &Incoming<'_>, reply: Reply) -> LocalReply {
    let status = reply.status(|| request.version == HttpVersion::Http10);
    let local = LocalReply::text(status, reply.reason.text());
    match reply.location {
        Some(location) => local.with("location", location),
        None => local,
    }
}

/// Returns the client's request id if it is safe to log and to forward, or a new one.
pub(crate) fn request_id(fields: &[Header<'_>]) -> String {
    let given = only(fields, REQUEST_ID).filter(|id| {
        (1..=128).contains(&id.len())
            && id
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(octet))
    });
    match given.and_then(|id| std::str::from_utf8(id).ok()) {
        Some(id) => id.to_owned(),
        // `now_v7` would order ids across workers, for which it takes a lock.
        None => Uuid::new_v7(Timestamp::now(NoContext)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_kept_if_it_is_safe() {
        let long = "a".repeat(128);
        for id in ["a", "0.Z_y-9", &long] {
            assert_eq!(request_id(&[(b"X-Request-ID", id.as_bytes())]), id);
        }
        let too_long = "a".repeat(129);
        for id in ["", "a b", "a\r", "a/b", "\u{e9}", &too_long] {
            let made = request_id(&[(b"x-request-id", id.as_bytes())]);
            assert_eq!(
                Uuid::parse_str(&made).map(|id| id.get_version_num()),
                Ok(7),
                "{id:?}"
            );
        }
        let twice: [Header<'_>; 2] = [(b"x-request-id", b"a"), (b"x-request-id", b"a")];
        assert_ne!(request_id(&twice), "a");
        assert_ne!(request_id(&[]), request_id(&[]));
    }
}
