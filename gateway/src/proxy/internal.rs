//! Which requests does the gateway answer itself?
//!
//! Health and readiness, the redirects to the API's pages, and what operators ask for. These paths never get to the app.

use std::sync::LazyLock;

use fluxlit_policy::{Exchange, SubApp, SubAppPath};
use serde_json::json;

use crate::proxy::decide::Incoming;
use crate::proxy::local_reply::Reply;
use crate::upstream::health::Readiness;
use crate::worker::{METRICS_PATH, Worker};

/// What the gateway answers itself; `None` for everything else.
pub(super) fn own_answer(
    worker: &Worker,
    request: &Incoming<'_>,
    stripped_target: &[u8],
    exchange: &Exchange,
) -> Option<Reply> {
    let path_end = stripped_target.iter().position(|octet| *octet == b'?');
    let (path, query) =
        stripped_target.split_at_checked(path_end.unwrap_or(stripped_target.len()))?;
    let is_read = matches!(request.method, b"GET" | b"HEAD");
    if let Some(below) = worker.settings.api.part.strip(path) {
        return match below {
            b"/healthz" | b"/readyz" if !is_read => Some(
                Reply::json(405, &json!({"detail": "Method Not Allowed"}))
                    .with("allow", b"GET, HEAD".as_slice()),
            ),
            b"/healthz" => Some(Reply::json(200, &json!({"status": "ok"}))),
            b"/readyz" => Some(readiness(worker)),
            _ => None,
        };
    }
    match path {
        b"/docs" | b"/docs/" | b"/redoc" | b"/redoc/" | b"/openapi.json" if is_read => {
            let page = path.strip_suffix(b"/").unwrap_or(path);
            let mount = exchange.mount();
            let api = worker.settings.api.part.path();
            let location = [mount.as_bytes(), api.as_bytes(), page, query].concat();
            Some(Reply::redirect(307, location))
        }
        _ => {
            // However its letters are escaped.
            let below = INTERNAL.as_ref()?.strip(path)?;
            Some(worker.internal(&[PREFIX, below].concat(), is_read, false))
        }
    }
}

/// What the listener for operators answers: there is no app behind it.
pub(super) fn operators_answer(worker: &Worker, request: &Incoming<'_>) -> Reply {
    let path = request
        .target
        .split(|octet| *octet == b'?')
        .next()
        .unwrap_or_default();
    let is_read = matches!(request.method, b"GET" | b"HEAD");
    match path {
        b"/healthz" if is_read => Reply::json(200, &json!({"status": "ok"})),
        b"/readyz" if is_read => readiness(worker),
        b"/metrics" => worker.internal(METRICS_PATH, is_read, true),
        path => worker.internal(path, is_read, true),
    }
}

/// Whether requests should be sent here, in FluxLit's shape.
fn readiness(worker: &Worker) -> Reply {
    let streamlit = worker.readiness.streamlit.borrow();
    let api = worker.readiness.api.as_ref().map(|api| api.borrow());
    let reason = match (&*streamlit, api.as_deref()) {
        (Readiness::Draining, _) => Some("the gateway is stopping"),
        (Readiness::NotReady(reason), _) | (_, Some(Readiness::NotReady(reason))) => {
            Some(reason.as_str())
        }
        _ => None,
    };
    match reason {
        Some(reason) => Reply::json(503, &json!({"status": "not_ready", "detail": reason})),
        None if api.is_some() => Reply::json(
            200,
            &json!({"status": "ready", "streamlit": "ok", "api": "ok"}),
        ),
        None => Reply::json(200, &json!({"status": "ready", "streamlit": "ok"})),
    }
}

/// Paths of the gateway's own, which Streamlit never sees.
const PREFIX: &[u8] = b"/__fluxlit";
static INTERNAL: LazyLock<Option<SubApp>> =
    LazyLock::new(|| SubApp::parse("/__fluxlit", SubAppPath::Stripped));
