//! Responds to the gateway's internal endpoints: health, readiness, metrics, debug page, and redirects to the API's pages.
//!
//! These paths never reach the app. Streamlit's own metrics are as internal as the gateway's: only operators reach them.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use fluxlit_policy::{Edit, Edits, Exchange, SubApp, SubAppPath, is_metrics};
use serde_json::json;

use crate::observe::exposition;
use crate::proxy::local_reply::LocalReply;
use crate::proxy::request::Incoming;
use crate::public_url::{PublicUrlTable, PublicUrls};
use crate::upstream::health::Readiness;
use crate::worker::Worker;

/// Returns the response to a request for an internal endpoint, `None` for any other request.
pub(super) fn internal_reply(
    worker: &Worker,
    request: &Incoming<'_>,
    stripped_target: &[u8],
    exchange: &Exchange,
) -> Option<LocalReply> {
    let path_end = stripped_target.iter().position(|octet| *octet == b'?');
    let (path, query) =
        stripped_target.split_at_checked(path_end.unwrap_or(stripped_target.len()))?;
    if let Some(below) = worker.settings.api.sub_app.strip(path) {
        return match below {
            b"/healthz" | b"/readyz" if !is_get_or_head(request) => Some(method_not_allowed()),
            b"/healthz" => Some(health_of_app(worker)),
            b"/readyz" => Some(readiness(worker)),
            _ => None,
        };
    }
    match path {
        b"/docs" | b"/docs/" | b"/redoc" | b"/redoc/" | b"/openapi.json"
            if is_get_or_head(request) =>
        {
            let page = path.strip_suffix(b"/").unwrap_or(path);
            let mount = exchange.mount();
            let api = worker.settings.api.sub_app.path();
            let location = [mount.as_bytes(), api.as_bytes(), page, query].concat();
            Some(LocalReply::redirect(307, location))
        }
        _ if is_configured_metrics(worker, path) => {
            let is_public = worker.settings.observe.is_public;
            Some(operators_reply(
                worker,
                request,
                exchange,
                METRICS_PATH,
                is_public,
            ))
        }
        _ if is_metrics(path) && !worker.settings.observe.is_public => Some(not_found()),
        _ => {
            // Matches even if letters are percent-encoded.
            let below = INTERNAL.as_ref()?.strip(path)?;
            let path = [PREFIX, below].concat();
            let is_public = worker.settings.observe.is_public;
            Some(operators_reply(worker, request, exchange, &path, is_public))
        }
    }
}

/// Returns the edits for a request on the admin listener that is for Streamlit's metrics, `None` for any other request.
///
/// The mount is not in the path there, and the host that operators use is not one of the app's.
pub(super) fn edits_for_streamlit_metrics(
    worker: &Worker,
    request: &Incoming<'_>,
) -> Option<Edits> {
    let is_plain = is_get_or_head(request) && request.length.is_empty() && !request.is_websocket;
    if !is_plain || !is_metrics(request.target) {
        return None;
    }
    let upstream = &worker.settings.upstream;
    let query = request.target.iter().position(|octet| *octet == b'?');
    let query = query.and_then(|start| request.target.get(start..));
    let base = upstream.base.as_bytes();
    let target = [base, STREAMLIT_METRICS_PATH, query.unwrap_or_default()].concat();
    Some(Edits::from_iter([
        Edit::Target(&target),
        Edit::Host(upstream.authority().as_bytes()),
    ]))
}

/// Returns the response to any other request on the admin listener, which serves no app.
pub(super) fn admin_reply(
    worker: &Worker,
    request: &Incoming<'_>,
    exchange: &Exchange,
) -> LocalReply {
    let mut parts = request.target.split(|octet| *octet == b'?');
    match parts.next().unwrap_or_default() {
        b"/healthz" if is_get_or_head(request) => health(),
        b"/readyz" if is_get_or_head(request) => readiness(worker),
        b"/metrics" => operators_reply(worker, request, exchange, METRICS_PATH, true),
        path if is_configured_metrics(worker, path) => {
            operators_reply(worker, request, exchange, METRICS_PATH, true)
        }
        DEBUG_PATH if request.peer.is_loopback() && !names_this_machine(request.host) => {
            LocalReply::text(403, WRONG_NAME)
        }
        path => operators_reply(worker, request, exchange, path, true),
    }
}

/// Returns true for `localhost` and for an address, with or without a port.
///
/// A page of another site that a developer has open can make its own name lead to this machine, and read what is served here
/// (DNS rebinding). Its requests carry that name.
fn names_this_machine(host: Option<&[u8]>) -> bool {
    let Some(host) = host.and_then(|host| std::str::from_utf8(host).ok()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Serves the metrics and the debug page if `is_allowed`; otherwise responds with 404.
fn operators_reply(
    worker: &Worker,
    request: &Incoming<'_>,
    exchange: &Exchange,
    path: &[u8],
    is_allowed: bool,
) -> LocalReply {
    let shared = &worker.shared;
    let content = match path {
        METRICS_PATH if is_allowed && worker.settings.observe.metrics => {
            Some((exposition::CONTENT_TYPE, shared.metrics.scrape()))
        }
        DEBUG_PATH if is_allowed => {
            let debug = shared.debug.as_ref();
            debug.map(|debug| {
                (
                    "application/json",
                    debug.page(public_urls(worker, exchange)),
                )
            })
        }
        _ => None,
    };
    match content {
        None => not_found(),
        Some(_) if !is_get_or_head(request) => method_not_allowed(),
        Some((content_type, body)) => LocalReply::with_body(200, content_type, body.into_bytes())
            .with("cache-control", b"no-store".as_slice()),
    }
}

/// Returns the URLs of the app for the client of this request; `None` if it names no host.
fn public_urls(worker: &Worker, exchange: &Exchange) -> Option<PublicUrlTable> {
    let origin = exchange.public_origin()?;
    let settings = &worker.settings;
    let mount = exchange.mount();
    // The listener for operators serves this page outside the mount.
    let mount = if mount.is_empty() {
        settings.policy.mount()
    } else {
        &mount
    };
    let urls = PublicUrls::new(&origin, mount, settings.api.sub_app.path());
    Some(urls.ok()?.table())
}

/// Returns true for the path that the operator has chosen for the metrics. While they are off, it is the app's.
fn is_configured_metrics(worker: &Worker, path: &[u8]) -> bool {
    let observe = &worker.settings.observe;
    observe.metrics && path == observe.metrics_path.as_bytes()
}

fn health() -> LocalReply {
    LocalReply::json(200, &json!({"status": "ok"}))
}

/// Reports that the gateway is alive, but not before an app that it starts has been ready once.
///
/// FluxLit listens only then, and scripts that have waited for this path use the app. What happens to the app later is no
/// concern of this path: the gateway restarts it, and readiness tells.
fn health_of_app(worker: &Worker) -> LocalReply {
    if worker.readiness.has_started.load(Ordering::Relaxed) {
        return health();
    }
    match not_ready(worker) {
        Some(reason) => LocalReply::json(503, &json!({"status": "starting", "detail": reason})),
        None => health(),
    }
}

/// Reports in FluxLit's format whether requests should be sent here.
fn readiness(worker: &Worker) -> LocalReply {
    match not_ready(worker) {
        Some(reason) => LocalReply::json(503, &json!({"status": "not_ready", "detail": reason})),
        None if worker.readiness.api.is_some() => LocalReply::json(
            200,
            &json!({"status": "ready", "streamlit": "ok", "api": "ok"}),
        ),
        None => LocalReply::json(200, &json!({"status": "ready", "streamlit": "ok"})),
    }
}

/// Returns why no requests should be sent here, if they should not.
fn not_ready(worker: &Worker) -> Option<String> {
    let streamlit = worker.readiness.streamlit.borrow();
    let api = worker.readiness.api.as_ref().map(|api| api.borrow());
    match (&*streamlit, api.as_deref()) {
        (Readiness::Draining, _) => Some("the gateway is stopping".to_owned()),
        (Readiness::NotReady(reason), _) | (_, Some(Readiness::NotReady(reason))) => {
            Some(reason.clone())
        }
        _ => None,
    }
}

fn not_found() -> LocalReply {
    LocalReply::json(404, &json!({"detail": "Not Found"}))
}

fn method_not_allowed() -> LocalReply {
    LocalReply::json(405, &json!({"detail": "Method Not Allowed"}))
        .with("allow", b"GET, HEAD".as_slice())
}

fn is_get_or_head(request: &Incoming<'_>) -> bool {
    matches!(request.method, b"GET" | b"HEAD")
}

/// Prefix of the internal endpoints, which Streamlit never sees.
const PREFIX: &[u8] = b"/__fluxlit";
static INTERNAL: LazyLock<Option<SubApp>> =
    LazyLock::new(|| SubApp::parse("/__fluxlit", SubAppPath::Stripped));

/// The same paths as in FluxLit.
const METRICS_PATH: &[u8] = b"/__fluxlit/metrics";
const DEBUG_PATH: &[u8] = b"/__fluxlit/debug";

const WRONG_NAME: &str =
    "From this machine, open the debug page under the address of the listener or as localhost.";

const STREAMLIT_METRICS_PATH: &[u8] = b"/_stcore/metrics";
