//! What is one request's way through the gateway?
//!
//! Facts to the policy, its edits to the request, the request to the upstream, the answer's facts to the policy, its
//! edits to the answer. Bodies are streamed both ways and never held; when the client leaves, hyper drops this future
//! and with it the upstream's connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fluxlit_policy::{Action, Edit, Exchange, Header, Peer, Policy};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::watch;

use crate::health::Readiness;
use crate::settings::Settings;
use crate::tunnel::Tunnels;
use crate::upstream::{Pool, UpstreamError};
use crate::{hop, reply, tunnel};

/// The body of an answer: the upstream's, or our own.
pub(crate) type ResponseBody = Either<Incoming, Full<Bytes>>;

/// What a worker's requests share.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) readiness: watch::Receiver<Readiness>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) tunnels: Rc<Tunnels>,
}

/// Serves one request of a connection from `peer`.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let request_id = request_id(request.headers());
    let mut response = decide(&worker, peer, request, &request_id).await;
    response.headers_mut().insert(REQUEST_ID, request_id);
    Ok(response)
}

async fn decide(
    worker: &Rc<Worker>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
    request_id: &HeaderValue,
) -> Response<ResponseBody> {
    let policy = &worker.settings.policy;
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().cloned();
    let has_one_host = hosts.next().is_none();
    let is_http_11 = request.version() == Version::HTTP_11;
    let decision = {
        let lines = lines(request.headers());
        let target = raw_target(request.uri());
        policy.request(&fluxlit_policy::Request {
            peer: Peer::Ip(peer.ip().to_canonical()),
            identity: None,
            is_reentry: false,
            tls: false,
            method: request.method().as_str().as_bytes(),
            target: &target,
            host: host.as_ref().map(HeaderValue::as_bytes),
            headers: &lines,
        })
    };
    let exchange = decision.exchange;
    let finish = |response| finish(policy, &exchange, response);
    // RFC 9112 §3.2: exactly one, and HTTP/1.1 has no request without.
    if !has_one_host || (is_http_11 && host.is_none()) {
        return finish(own(reply::text(
            StatusCode::BAD_REQUEST,
            "A request has exactly one Host.",
        )));
    }
    if request.method() == Method::TRACE {
        return finish(own(reply::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "TRACE is not allowed here.",
        )));
    }
    let forward = match decision.action {
        Action::Reply(answer) => {
            let is_http_10 = request.version() == Version::HTTP_10;
            let status = answer.status(|| is_http_10);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = reply::text(status, answer.reason.text());
            if let Some(location) = answer
                .location
                .and_then(|url| HeaderValue::from_bytes(&url).ok())
            {
                response.headers_mut().insert(header::LOCATION, location);
            }
            return finish(own(response));
        }
        Action::Forward(forward) => forward,
    };
    if let Some(response) = answer_api(worker, request.method(), &forward.stripped_target) {
        return finish(own(response));
    }

    let is_websocket = hop::is_websocket(request.headers());
    if is_websocket && let Some(response) = tunnel::refuse_early(request.headers()) {
        return finish(own(response));
    }
    let upgrade = is_websocket.then(|| hyper::upgrade::on(&mut request));
    if !apply_to_request(&mut request, &forward.edits) {
        return finish(own(reply::text(
            StatusCode::BAD_REQUEST,
            "The request cannot be forwarded safely.",
        )));
    }
    request.headers_mut().insert(REQUEST_ID, request_id.clone());
    let accept = request.headers().get(header::ACCEPT).cloned();
    let mut request = request.map(|body| RequestBody(Some((body, Arc::clone(&worker.settings)))));
    *request.version_mut() = Version::HTTP_11;

    let result = match upgrade {
        Some(upgrade) => return finish(tunnel::open(worker, request, upgrade).await),
        None => {
            hop::strip_request(request.headers_mut());
            worker
                .pool
                .send(request, worker.settings.read_timeout)
                .await
        }
    };
    match result {
        Ok(response) => {
            let mut response = response.map(Either::Left);
            hop::strip_response(response.headers_mut());
            finish(response)
        }
        Err(error) => {
            let mut headers = HeaderMap::new();
            headers.extend(accept.map(|accept| (header::ACCEPT, accept)));
            finish(own(failure(worker, &headers, &error)))
        }
    }
}

/// Turns an upstream's failure into an answer that says whose fault it is.
pub(crate) fn failure(
    worker: &Worker,
    request: &HeaderMap,
    error: &UpstreamError,
) -> Response<Full<Bytes>> {
    match error {
        UpstreamError::Connect(reason) => {
            tracing::warn!(reason, "the upstream cannot be reached");
            match &*worker.readiness.borrow() {
                Readiness::NotReady(_) => reply::not_ready(request, "The app is not ready yet."),
                Readiness::Ready | Readiness::Draining => {
                    reply::text(StatusCode::BAD_GATEWAY, "The app cannot be reached.")
                }
            }
        }
        UpstreamError::Broken(reason) => {
            tracing::warn!(%reason, "the upstream broke off");
            reply::text(StatusCode::BAD_GATEWAY, "The app broke off its answer.")
        }
        UpstreamError::Timeout => reply::text(
            StatusCode::GATEWAY_TIMEOUT,
            "The app did not answer in time.",
        ),
    }
}

/// Answers what is below the API's mount; `None` for everything else.
fn answer_api(worker: &Worker, method: &Method, target: &[u8]) -> Option<Response<Full<Bytes>>> {
    let path = target.split(|octet| *octet == b'?').next()?;
    let below = path.strip_prefix(worker.settings.api_mount_path.as_bytes())?;
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    Some(match below {
        b"/healthz" if is_read => reply::json(StatusCode::OK, &json!({"status": "ok"})),
        b"/readyz" if is_read => match &*worker.readiness.borrow() {
            Readiness::Ready => reply::json(
                StatusCode::OK,
                &json!({"status": "ready", "streamlit": "ok"}),
            ),
            Readiness::NotReady(reason) => reply::json(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({"status": "not_ready", "detail": reason}),
            ),
            Readiness::Draining => reply::json(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({"status": "not_ready", "detail": "the gateway is stopping"}),
            ),
        },
        b"/healthz" | b"/readyz" => {
            let mut response = reply::json(
                StatusCode::METHOD_NOT_ALLOWED,
                &json!({"detail": "Method Not Allowed"}),
            );
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        b"" | [b'/', ..] => reply::json(StatusCode::NOT_FOUND, &json!({"detail": "Not Found"})),
        _ => return None,
    })
}

/// Applies the policy to an answer.
fn finish(
    policy: &Policy,
    exchange: &Exchange,
    mut response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    let decision = policy.response(
        exchange,
        &fluxlit_policy::Response {
            status: response.status().as_u16(),
            headers: &lines(response.headers()),
        },
    );
    if apply(response.headers_mut(), &decision.edits) {
        response
    } else {
        own(reply::text(
            StatusCode::BAD_GATEWAY,
            "The app's answer cannot be forwarded safely.",
        ))
    }
}

fn apply_to_request(request: &mut Request<Incoming>, edits: &[Edit]) -> bool {
    for edit in edits {
        let is_done = match edit {
            Edit::Host(host) => HeaderValue::from_bytes(host)
                .map(|host| request.headers_mut().insert(header::HOST, host))
                .is_ok(),
            Edit::Target(target) => Uri::from_maybe_shared(Bytes::from(target.clone()))
                .map(|uri| *request.uri_mut() = uri)
                .is_ok(),
            Edit::Append(..) | Edit::Remove(_) | Edit::Set(..) => {
                apply(request.headers_mut(), std::slice::from_ref(edit))
            }
        };
        if !is_done {
            return false;
        }
    }
    true
}

/// Applies edits of fields; `false` if one is no valid field.
pub(crate) fn apply(headers: &mut HeaderMap, edits: &[Edit]) -> bool {
    for edit in edits {
        match edit {
            Edit::Append(name, value) | Edit::Set(name, value) => {
                let (Ok(name), Ok(value)) = (
                    HeaderName::from_bytes(name.as_bytes()),
                    HeaderValue::from_bytes(value),
                ) else {
                    return false;
                };
                if matches!(edit, Edit::Set(..)) {
                    headers.insert(name, value);
                } else {
                    headers.append(name, value);
                }
            }
            Edit::Remove(name) => {
                headers.remove(name.as_ref());
            }
            Edit::Host(_) | Edit::Target(_) => return false,
        }
    }
    true
}

/// The fields of a message, `Host` excepted.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<Header<'_>> {
    headers
        .iter()
        .filter(|(name, _)| *name != header::HOST)
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
        .collect()
}

fn raw_target(uri: &Uri) -> Vec<u8> {
    match uri.path_and_query() {
        Some(target) if uri.authority().is_none() => target.as_str().as_bytes().to_vec(),
        _ => uri.to_string().into_bytes(),
    }
}

fn own(response: Response<Full<Bytes>>) -> Response<ResponseBody> {
    response.map(Either::Right)
}

/// Takes a request id that is safe to log and to send, or makes one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let mut given = headers.get_all(REQUEST_ID).iter();
    if let (Some(id), None) = (given.next(), given.next()) {
        let is_safe = (1..=128).contains(&id.len())
            && id
                .as_bytes()
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(octet));
        if is_safe {
            return id.clone();
        }
    }
    HeaderValue::from_str(&uuid::Uuid::now_v7().to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// A request's body on its way upstream: the client's, with governed fields taken out of its trailers.
pub(crate) struct RequestBody(Option<(Incoming, Arc<Settings>)>);

impl RequestBody {
    /// The body of a request that has none.
    pub(crate) fn empty() -> Self {
        Self(None)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((body, settings)) = &mut self.get_mut().0 else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| match frame.into_trailers() {
                Ok(mut trailers) => {
                    let edits = settings.policy.request_trailers(&lines(&trailers));
                    apply(&mut trailers, &edits);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
