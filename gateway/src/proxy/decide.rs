//! Decides how to handle a request: reject it, respond to it here, or forward it.
//!
//! The policy decides first. If the request is forwarded, the whole head of the upstream request is written here, so that
//! the client's head need not be kept.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

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
use crate::proxy::internal::{admin_reply, edits_for_streamlit_metrics, internal_reply};
use crate::proxy::local_reply::LocalReply;
use crate::proxy::probe::probe_reply;
use crate::proxy::request::{Forward, Incoming, Plan, RequestInfo, Step};
use crate::proxy::upstream_head::{TRACEPARENT, write_head};
use crate::worker::Worker;

/// Decides how to handle a request.
pub(crate) fn decide(worker: &Worker, request: &Incoming<'_>) -> Box<Plan> {
    let facts = Request {
        peer: Peer::Ip(request.peer),
        identity: request.identity,
        is_reentry: false,
        tls: request.tls,
        method: request.method,
        target: request.target,
        host: request.host,
        headers: request.fields,
    };
    let decision = worker.settings.policy.request(&facts);
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
    let date = SystemTime::now();
    let mut info = RequestInfo {
        started: Instant::now(),
        date,
        request_id: match &decision.action {
            // The settings say that the client's line must not reach the app.
            Action::Forward(forward) if replaces(&forward.edits, REQUEST_ID) => {
                request_id(&[], date)
            }
            _ => request_id(request.fields, date),
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
    let forwarded = forwarded.and_then(|()| {
        let of_apps = (!request.is_admin).then_some(&facts);
        let record = of_apps.and_then(|facts| probe_reply(worker, facts));
        record.map_or(Ok(()), |record| Err(Local::Reply(record)))
    });
    let forwarded = forwarded.and_then(|()| match decision.action {
        action if !request.is_admin => forward(worker, request, action, &mut exchange, &mut info),
        // The paths of the admin listener are not the policy's, but an invalid Host is invalid here as well.
        Action::Reply(reply) if reply.reason == Reason::BadHost => {
            Err(Local::OfPolicy(policy_reply(request, reply)))
        }
        Action::Reply(_) | Action::Forward(_) => {
            forward_from_operator(worker, request, &exchange, &mut info)
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
    Box::new(Plan {
        info,
        exchange,
        step,
    })
}

/// A request that is not forwarded.
enum Local {
    Rejected(Rejection),
    Reply(LocalReply),
    /// The policy's reply, which has a reason.
    OfPolicy(LocalReply),
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
            Self::Reply(reply) | Self::OfPolicy(reply)
                if request.is_websocket
                    && request.version == HttpVersion::Http2
                    && (200..300).contains(&reply.status) =>
            {
                let text = "No WebSocket is served here.";
                let rejection = Rejection::new(RejectReason::Handshake, 400, text);
                (rejection.into(), Some(RejectReason::Handshake))
            }
            Self::Reply(reply) => (reply, None),
            Self::OfPolicy(reply) => (reply, of_policy),
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
        Action::Reply(reply) => return Err(Local::OfPolicy(policy_reply(request, reply))),
    };
    if request.framing.expects_other {
        let text = "This expectation cannot be met.";
        return Err(Rejection::new(RejectReason::Expectation, 417, text).into());
    }
    if let Some(reply) = internal_reply(worker, request, forward.stripped_target(), exchange) {
        return Err(Local::Reply(reply));
    }
    let upstream = match settings.api.sub_app.strip(forward.stripped_target()) {
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
    if is_get && upstream == Upstream::Streamlit && is_stream(forward.stripped_target()) {
        worker.observer.counters.plain_get_on_stream();
        worker.shared.warnings.plain_get_on_stream(request.peer);
    }
    let is_asset = upstream == Upstream::Streamlit && is_asset(forward.stripped_target());
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

/// Forwards a request for Streamlit's metrics from the admin listener; responds to any other.
fn forward_from_operator(
    worker: &Worker,
    request: &Incoming<'_>,
    exchange: &Exchange,
    info: &mut RequestInfo,
) -> Result<Forward, Local> {
    let Some(edits) = edits_for_streamlit_metrics(worker, request) else {
        return Err(Local::Reply(admin_reply(worker, request, exchange)));
    };
    let upstream = Upstream::Streamlit;
    info.dispatch = Dispatch::Streamlit;
    Ok(Forward {
        upstream,
        head: write_head(worker, request, &edits, info, upstream, None),
        length: request.length,
        expects_continue: false,
        is_idempotent: true,
        accept: None,
        wants_page: false,
        is_asset: false,
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
pub(crate) fn request_id(fields: &[Header<'_>], now: SystemTime) -> String {
    let given = only(fields, REQUEST_ID).filter(|id| {
        (1..=128).contains(&id.len())
            && id
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(octet))
    });
    match given.and_then(|id| std::str::from_utf8(id).ok()) {
        Some(id) => id.to_owned(),
        // `now_v7` would order ids across workers, for which it takes a lock.
        None => {
            let since = now
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let time = Timestamp::from_unix(NoContext, since.as_secs(), since.subsec_nanos());
            Uuid::new_v7(time).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::time::Duration;

    use fluxlit_policy::{Hop, Nonce, PROBE_FIELD, Probe, ProbeKey};

    use super::*;
    use crate::http::framing::Framing;

    /// A GET for `/` without fields.
    fn get<'a>(framing: &'a Framing) -> Incoming<'a> {
        Incoming {
            peer: Ipv4Addr::LOCALHOST.into(),
            identity: None,
            tls: false,
            version: HttpVersion::Http11,
            method: b"GET",
            target: b"/",
            host: Some(b"app.example"),
            hosts: 1,
            fields: &[],
            framing,
            length: Length::Empty,
            is_websocket: false,
            is_admin: false,
        }
    }

    /// Returns where the request goes, and the status and the reason of a response made here.
    fn outcome(plan: &Plan) -> (Dispatch, Option<(u16, Option<&'static str>)>) {
        let reply = match &plan.step {
            Step::Forward(_) => None,
            Step::Respond { reply, reason } => {
                Some((reply.status, reason.map(RejectReason::label)))
            }
        };
        (plan.info.dispatch, reply)
    }

    #[track_caller]
    fn check(
        worker: &Worker,
        change: impl FnOnce(&mut Incoming<'_>),
        want: (Dispatch, Option<(u16, Option<&'static str>)>),
    ) {
        let framing = Framing::of(&[]);
        let mut request = get(&framing);
        change(&mut request);
        assert_eq!(outcome(&decide(worker, &request)), want);
    }

    const FORWARDED: (Dispatch, Option<(u16, Option<&'static str>)>) = (Dispatch::Streamlit, None);

    const fn here(
        status: u16,
        reason: Option<&'static str>,
    ) -> (Dispatch, Option<(u16, Option<&'static str>)>) {
        (Dispatch::Gateway, Some((status, reason)))
    }

    #[test]
    fn requests_that_are_rejected_here() {
        let worker = Worker::with_settings(&[
            ("FLUXLIT_GATEWAY_MAX_TARGET_BYTES", "64"),
            ("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", "10"),
        ]);
        check(&worker, |_| {}, FORWARDED);
        check(&worker, |it| it.hosts = 2, here(400, Some("host_lines")));
        let no_host = |it: &mut Incoming<'_>| (it.hosts, it.host) = (0, None);
        check(&worker, no_host, here(400, Some("host_lines")));
        let old = |it: &mut Incoming<'_>| {
            no_host(it);
            it.version = HttpVersion::Http10;
        };
        check(&worker, old, FORWARDED);
        check(&worker, |it| it.method = b"TRACE", here(405, Some("trace")));
        static TARGET: &[u8] = &[b'/'; 65];
        check(&worker, |it| it.target = &TARGET[..64], FORWARDED);
        let long = here(414, Some("target_too_long"));
        check(&worker, |it| it.target = TARGET, long);
        let dots = here(400, Some("dot_segment"));
        check(&worker, |it| it.target = b"/%2e%2e/x", dots);
        check(&worker, |it| it.length = Length::Exact(10), FORWARDED);
        let large = (Dispatch::Streamlit, Some((413, Some("body_too_large"))));
        check(&worker, |it| it.length = Length::Exact(11), large);
        check(&worker, |it| it.length = Length::Chunked, FORWARDED);
        let unlimited =
            Worker::with_settings(&[("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", "0")]);
        check(&unlimited, |it| it.length = Length::Exact(11), FORWARDED);
        check(&worker, |it| it.target = b"/api/x", here(404, None));
        check(&worker, |it| it.target = b"/api/healthz", here(200, None));

        let framing = Framing::of(&[(b"expect", b"tea")]);
        let plan = decide(&worker, &get(&framing));
        assert_eq!(outcome(&plan), here(417, Some("expectation")));
    }

    #[test]
    fn the_reply_of_the_policy_is_sent() {
        let worker = Worker::with_settings(&[
            ("FLUXLIT_ROOT_PATH", "/app"),
            ("FLUXLIT_ROOT_PATH_SHAPE", "full"),
        ]);
        let framing = Framing::of(&[]);
        let mut request = get(&framing);
        request.target = b"/app";
        let Step::Respond { reply, .. } = decide(&worker, &request).step else {
            panic!("forwarded");
        };
        let want = LocalReply::text(308, Reason::BareMount.text());
        assert_eq!(reply, want.with("location", b"/app/".as_slice()));
        // HTTP/1.0 has no 421.
        let hosts = Worker::with_settings(&[("FLUXLIT_ALLOWED_HOSTS", "other.example")]);
        let label = Some(Reason::HostNotAllowed.label());
        check(&hosts, |_| {}, here(421, label));
        check(
            &hosts,
            |it| it.version = HttpVersion::Http10,
            here(400, label),
        );
    }

    #[test]
    fn the_admin_listener_serves_no_app() {
        let worker = Worker::with_settings(&[]);
        for (target, status) in [("/healthz", 200), ("/api/healthz", 404), ("/", 404)] {
            let admin = |it: &mut Incoming<'_>| {
                it.is_admin = true;
                it.target = target.as_bytes();
            };
            check(&worker, admin, here(status, None));
        }
        // A reply of the policy does not count there, except for an invalid Host.
        let admin = |it: &mut Incoming<'_>| {
            it.is_admin = true;
            it.host = Some(b"a b");
        };
        check(&worker, admin, here(400, Some("bad_host")));
        let mounted = Worker::with_settings(&[
            ("FLUXLIT_ROOT_PATH", "/app"),
            ("FLUXLIT_ROOT_PATH_SHAPE", "full"),
        ]);
        let admin = |it: &mut Incoming<'_>| {
            it.is_admin = true;
            it.target = b"/healthz";
        };
        check(&mounted, admin, here(200, None));
    }

    /// In response to an extended CONNECT, any 2xx would open the WebSocket.
    #[test]
    fn no_websocket_of_http_2_gets_a_success_from_here() {
        let worker = Worker::with_settings(&[]);
        for (target, version, want) in [
            (
                "/api/healthz",
                HttpVersion::Http2,
                here(400, Some("handshake")),
            ),
            ("/api/readyz", HttpVersion::Http2, here(503, None)),
            ("/api/healthz", HttpVersion::Http11, here(200, None)),
        ] {
            let handshake = |it: &mut Incoming<'_>| {
                it.is_websocket = true;
                it.version = version;
                it.target = target.as_bytes();
            };
            check(&worker, handshake, want);
        }
        check(
            &worker,
            |it| (it.version, it.target) = (HttpVersion::Http2, b"/api/healthz"),
            here(200, None),
        );
    }

    #[test]
    fn the_plan_of_a_forwarded_request() {
        let worker = Worker::with_settings(&[("FLUXLIT_API_UPSTREAM", "http://127.0.0.1:8600")]);
        let page: &[Header<'_>] = &[(b"accept", b"text/html,*/*")];
        let script: &[Header<'_>] = &[(b"accept", b"application/json, */*")];
        for (method, target, fields, idempotent, wants_page, dispatch) in [
            ("GET", "/", page, true, true, Dispatch::Streamlit),
            ("GET", "/", script, true, false, Dispatch::Streamlit),
            ("HEAD", "/", page, true, false, Dispatch::Streamlit),
            ("OPTIONS", "/x", script, true, false, Dispatch::Streamlit),
            ("PUT", "/api/x", page, true, false, Dispatch::Api),
            ("DELETE", "/api/", script, true, false, Dispatch::Api),
            ("POST", "/api/x", script, false, false, Dispatch::Api),
            ("PATCH", "/apix", script, false, false, Dispatch::Streamlit),
        ] {
            let framing = Framing::of(&[]);
            let mut request = get(&framing);
            (request.method, request.target) = (method.as_bytes(), target.as_bytes());
            (request.fields, request.length) = (fields, Length::Exact(3));
            let plan = decide(&worker, &request);
            let Step::Forward(forward) = plan.step else {
                panic!("{method} {target} is not forwarded");
            };
            assert_eq!(plan.info.dispatch, dispatch, "{target}");
            assert_eq!(plan.info.is_head, method == "HEAD");
            assert_eq!(&*plan.info.method, method.as_bytes());
            assert_eq!(&*plan.info.target, target.as_bytes());
            assert_eq!(forward.upstream == Upstream::Api, dispatch == Dispatch::Api);
            assert_eq!(forward.length, Length::Exact(3));
            assert_eq!(forward.is_idempotent, idempotent, "{method}");
            assert_eq!(forward.wants_page, wants_page, "{method} {fields:?}");
            assert_eq!(forward.accept, None);
            assert!(forward.head.starts_with(method.as_bytes()));
        }
    }

    /// Returns what `decide` logs about a request, and what it counts of ignored headers and of Streamlit's stream.
    fn told(worker: &Worker, change: impl FnOnce(&mut Incoming<'_>)) -> (String, Vec<String>) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(Arc::new(file.reopen().expect("the file")))
            .finish();
        let framing = Framing::of(&[]);
        let mut request = get(&framing);
        change(&mut request);
        tracing::subscriber::with_default(subscriber, || decide(worker, &request));
        let log = std::fs::read_to_string(file.path()).expect("text");
        let counters = [
            "forwarded_ignored_total",
            "plain_get_on_stream_total",
            "websocket_header_bytes_count",
        ];
        let metrics = worker.shared.metrics.scrape();
        let counters = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("fluxlit_gateway_"))
            .filter(|line| counters.iter().any(|counter| line.starts_with(counter)))
            .filter(|line| !line.ends_with(" 0"))
            .map(str::to_owned)
            .collect();
        (log, counters)
    }

    #[test]
    fn operators_are_told_of_ignored_headers_and_lost_upgrades() {
        const TRUST: &[(&str, &str)] = &[
            ("FLUXLIT_TRUST_PROXY", "1"),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
        ];
        const HTTPS: &[Header<'_>] = &[
            (b"x-forwarded-for", b"192.0.2.1"),
            (b"x-forwarded-proto", b"https"),
        ];
        const HTTP: &[Header<'_>] = &[
            (b"x-forwarded-for", b"192.0.2.1"),
            (b"x-forwarded-proto", b"http"),
        ];
        const TAKEN_AS_HTTP: &str = "ignored: the scheme is taken as http, because 127.0.0.1";
        const IGNORED: &str = "headers of 127.0.0.1 are ignored; if";
        const COUNTED: &[&str] = &[r#"forwarded_ignored_total{family="forwarding"} 1"#];
        const NO_UPGRADE: &str = "127.0.0.1 has sent a GET without an upgrade";
        const STREAM: &str = "/_stcore/stream";
        // Settings, method, target, fields, TLS; the start of the warning, the counters.
        for (settings, method, target, fields, tls, warning, counters) in [
            (&[][..], "GET", "/", &[][..], false, "", &[][..]),
            (&[], "GET", "/", HTTPS, false, TAKEN_AS_HTTP, COUNTED),
            (&[], "GET", "/", HTTPS, true, IGNORED, COUNTED),
            (&[], "GET", "/", HTTP, false, IGNORED, COUNTED),
            (TRUST, "GET", "/", HTTPS, false, "", &[]),
            (
                &[],
                "GET",
                STREAM,
                &[],
                false,
                NO_UPGRADE,
                &["plain_get_on_stream_total 1"],
            ),
            (&[], "POST", STREAM, &[], false, "", &[]),
        ] {
            let worker = Worker::with_settings(settings);
            let (log, counted) = told(&worker, |it| {
                (it.method, it.target) = (method.as_bytes(), target.as_bytes());
                (it.fields, it.tls) = (fields, tls);
            });
            let context = format!("{settings:?} {method} {target} {fields:?} tls={tls}: {log}");
            assert_eq!(log.is_empty(), warning.is_empty(), "{context}");
            assert!(log.contains(warning), "{context}");
            assert_eq!(counted, counters, "{context}");
        }
    }

    /// An API can be published at a path that Streamlit uses too.
    #[test]
    fn only_what_goes_to_streamlit_is_its_stream_or_an_asset() {
        const STREAM: &str = "/_stcore/stream";
        const SCRIPT: &str = "/static/js/index.js";
        const API: (&str, &str) = ("FLUXLIT_API_UPSTREAM", "http://127.0.0.1:8600");
        const PLAIN: &str = "plain_get_on_stream_total 1";
        const LINE: &str = "websocket_header_bytes_count 1";
        // The path of the API, target, whether it is a handshake; the counters, whether it is an asset, the head.
        for (path, target, is_websocket, counters, is_asset, head) in [
            (
                "/api",
                STREAM,
                false,
                &[PLAIN][..],
                false,
                "GET /_stcore/stream ",
            ),
            ("/api", STREAM, true, &[LINE], false, "GET /_stcore/stream "),
            ("/api", SCRIPT, false, &[], true, "GET /static/js/index.js "),
            ("/api", "/api/x", true, &[], false, "GET /x "),
            ("/_stcore", STREAM, false, &[], false, "GET /stream "),
            ("/_stcore", STREAM, true, &[], false, "GET /stream "),
            ("/static", SCRIPT, false, &[], false, "GET /js/index.js "),
        ] {
            let worker = Worker::with_settings(&[API, ("FLUXLIT_API_MOUNT_PATH", path)]);
            let handshake = |it: &mut Incoming<'_>| {
                it.target = target.as_bytes();
                if is_websocket {
                    (it.is_websocket, it.version) = (true, HttpVersion::Http2);
                }
            };
            let (_, counted) = told(&worker, handshake);
            let context = format!("{target} with the API at {path}, handshake: {is_websocket}");
            assert_eq!(counted, counters, "{context}");
            let framing = Framing::of(&[]);
            let mut request = get(&framing);
            handshake(&mut request);
            let Step::Forward(forward) = decide(&worker, &request).step else {
                panic!("{context}: not forwarded");
            };
            assert_eq!(forward.is_asset, is_asset, "{context}");
            assert_eq!(forward.accept.is_some(), is_websocket, "{context}");
            let line = forward.head.split(|octet| *octet == b'\r').next();
            let line = String::from_utf8_lossy(line.unwrap_or_default());
            assert!(line.starts_with(head), "{context}: {line}");
        }
    }

    /// The decision record names what the policy decided about an app, and the admin listener has none.
    #[test]
    fn only_a_listener_of_apps_answers_probes() {
        const KEY: &str = "a probe key of the tests";
        let key = ProbeKey::new(KEY).expect("a key");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.expect("a time after 1970").as_secs();
        for (is_admin, want) in [(false, here(200, None)), (true, here(404, None))] {
            let worker = Worker::with_settings(&[("FLUXLIT_PROBE_KEY", KEY)]);
            let probe = Probe::new(Hop::Gateway, "app.example", now, Nonce::default());
            let field = probe.expect("a host").field(&key);
            let fields: &[Header<'_>] = &[(PROBE_FIELD.as_bytes(), field.as_bytes())];
            let framing = Framing::of(&[]);
            let mut request = get(&framing);
            request.target = b"/__fluxlit/record";
            (request.fields, request.is_admin) = (fields, is_admin);
            assert_eq!(outcome(&decide(&worker, &request)), want, "{is_admin}");
        }
    }

    #[test]
    fn the_id_of_a_request_is_that_of_the_client_unless_it_is_stripped() {
        let fields: &[Header<'_>] = &[(b"x-request-id", b"abc")];
        for (settings, is_kept) in [
            (&[][..], true),
            (&[("FLUXLIT_STRIP_HEADERS", "x-request-id")], false),
        ] {
            let worker = Worker::with_settings(settings);
            let framing = Framing::of(&[]);
            let mut request = get(&framing);
            request.fields = fields;
            let id = decide(&worker, &request).info.request_id;
            assert_eq!(id == "abc", is_kept, "{settings:?}");
        }
    }

    #[test]
    fn a_request_id_is_kept_if_it_is_safe() {
        let now = SystemTime::now();
        let long = "a".repeat(128);
        for id in ["a", "0.Z_y-9", &long] {
            assert_eq!(request_id(&[(b"X-Request-ID", id.as_bytes())], now), id);
        }
        let too_long = "a".repeat(129);
        for id in ["", "a b", "a\r", "a/b", "\u{e9}", &too_long] {
            let made = request_id(&[(b"x-request-id", id.as_bytes())], now);
            assert_eq!(
                Uuid::parse_str(&made).map(|id| id.get_version_num()),
                Ok(7),
                "{id:?}"
            );
        }
        let then = SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, 123_456_789);
        let made = Uuid::parse_str(&request_id(&[], then)).expect("a UUID");
        let time = made.get_timestamp().map(|time| time.to_unix());
        assert_eq!(time, Some((1_790_000_000, 123_000_000)));
        let twice: [Header<'_>; 2] = [(b"x-request-id", b"a"), (b"x-request-id", b"a")];
        assert_ne!(request_id(&twice, now), "a");
        assert_ne!(request_id(&[], now), request_id(&[], now));
    }
}
