//! Passes a request through the filter to the upstream, and the response back.
//!
//! A paused stream waits until the filter resumes it in a tick or on the response to a call-out. An upgrade becomes a
//! tunnel of bytes once the upstream has accepted it; the filter sees only the headers. As in Envoy, if the upstream cannot
//! be reached, a 503 passes the filter like any other response.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use host_test::Flow;
use host_test::event::Side;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::{FilteredBody, ProxyBody};
use super::call_outs::RunningFilter;
use super::exchange::Exchange;
use super::headers;
use super::recording::Recorder;
use super::upstream::{self, Upstream};

/// A filter in front of an upstream.
pub(super) struct Proxy {
    pub(super) filter: Rc<RunningFilter>,
    pub(super) upstream: Upstream,
    pub(super) recorder: Option<Rc<Recorder>>,
}

impl Proxy {
    pub(super) async fn handle(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<ProxyBody>, Infallible> {
        let filter = Rc::clone(&self.filter);
        let recorder = self.recorder.clone();
        let exchange = Rc::new(Exchange::new(filter, recorder, peer, request.version()));
        let downstream_upgrade =
            headers::upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let body = (downstream_upgrade.is_none() && !body.is_end_stream()).then_some(body);
        let end_of_stream = downstream_upgrade.is_none() && body.is_none();
        exchange.feed_request(parts, end_of_stream);
        let mut body = FilteredBody::new(body, Rc::clone(&exchange), Side::Request);
        if let Some(response) = wait_for_headers(&exchange, &mut body, Side::Request).await {
            return Ok(response);
        }
        let request = upstream::request(&exchange.headers(Side::Request), body.into_body());
        exchange.sent();
        let response = async { self.upstream.send(request?).await };
        let response = tokio::select! {
            response = response => response,
            // The filter may end the request in a tick, in the callback of a call-out, or while the body is streamed.
            flow = request_ended_by_filter(&exchange) => return Ok(early_response(&exchange, flow)),
        };
        Ok(match response {
            Ok(response) => forward_response(exchange, response, downstream_upgrade).await,
            Err(error) => unreachable_response(exchange, &error).await,
        })
    }
}

/// Waits until the headers have passed the filter. Returns the response to the client if the filter does not pass them on.
async fn wait_for_headers(
    exchange: &Exchange,
    body: &mut FilteredBody,
    side: Side,
) -> Option<Response<ProxyBody>> {
    match tokio::time::timeout(STREAM_IDLE_TIMEOUT, body.wait_for_headers()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Some(failure(&format!("{:#}", anyhow::Error::from(error)))),
        Err(_) => {
            return Some(failure(
                "the filter has held the headers for five minutes, after which Envoy resets the stream as well",
            ));
        }
    }
    match exchange.flow(side) {
        Flow::Continue | Flow::Paused => None,
        flow => Some(early_response(exchange, flow)),
    }
}

/// Waits until the filter replies or resets the stream; never completes if it does neither.
async fn request_ended_by_filter(exchange: &Exchange) -> Flow {
    loop {
        let changed = exchange.changed();
        let flow = exchange.flow(Side::Request);
        if matches!(flow, Flow::Replied | Flow::Reset) {
            return flow;
        }
        changed.await;
    }
}

/// Passes the upstream's response through the filter.
async fn forward_response(
    exchange: Rc<Exchange>,
    mut response: Response<Incoming>,
    downstream_upgrade: Option<OnUpgrade>,
) -> Response<ProxyBody> {
    let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let upstream_upgrade = is_upgraded.then(|| hyper::upgrade::on(&mut response));
    let (parts, body) = response.into_parts();
    let body = (!is_upgraded && !body.is_end_stream()).then_some(body);
    let end_of_stream = !is_upgraded && body.is_none();
    exchange.feed_response(parts.status, parts.headers, end_of_stream);
    let mut body = FilteredBody::new(body, Rc::clone(&exchange), Side::Response);
    if let Some(response) = wait_for_headers(&exchange, &mut body, Side::Response).await {
        return response;
    }
    if let (Some(upstream), Some(downstream)) = (upstream_upgrade, downstream_upgrade) {
        tokio::task::spawn_local(tunnel(Rc::clone(&exchange), downstream, upstream));
    }
    response_with(&exchange, body.into_body())
}

/// Builds the response to a request that the filter has ended.
fn early_response(exchange: &Exchange, flow: Flow) -> Response<ProxyBody> {
    match flow {
        Flow::Reset => failure("the filter reset the stream"),
        _ => response_with(
            exchange,
            ProxyBody::whole(exchange.take_body(Side::Response)),
        ),
    }
}

/// Builds the response if the upstream sent none: the filter's, if it replied while the body was sent, otherwise a 503.
async fn unreachable_response(
    exchange: Rc<Exchange>,
    error: &anyhow::Error,
) -> Response<ProxyBody> {
    if exchange.flow(Side::Request) == Flow::Replied {
        return early_response(&exchange, Flow::Replied);
    }
    eprintln!("upstream: {error:#}");
    let text = b"The upstream could not be reached.\n";
    let mut fields = http::HeaderMap::new();
    let content_type = HeaderValue::from_static("text/plain");
    fields.insert(header::CONTENT_TYPE, content_type);
    fields.insert(header::CONTENT_LENGTH, text.len().into());
    exchange.feed_response(StatusCode::SERVICE_UNAVAILABLE, fields, false);
    exchange.feed_body(Side::Response, text.to_vec(), true);
    let mut body = FilteredBody::new(None, Rc::clone(&exchange), Side::Response);
    match wait_for_headers(&exchange, &mut body, Side::Response).await {
        Some(response) => response,
        None => response_with(&exchange, body.into_body()),
    }
}

/// Builds a response of `body` and the headers that passed the filter.
fn response_with(exchange: &Exchange, body: ProxyBody) -> Response<ProxyBody> {
    let map = exchange.headers(Side::Response);
    let status = StatusCode::from_bytes(map.get(":status").unwrap_or_default());
    match (status, headers::to_http(&map)) {
        (Ok(status), Ok(headers)) => {
            let mut response = Response::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        _ => failure("the filter wrote an invalid status or header field"),
    }
}

/// Copies bytes both ways until both sides are closed. Keeps the exchange alive until then.
async fn tunnel(_exchange: Rc<Exchange>, downstream: OnUpgrade, upstream: OnUpgrade) {
    match tokio::try_join!(downstream, upstream) {
        Ok((downstream, upstream)) => {
            let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
            // A tunnel ends when either side closes or resets its connection; that is not an error.
            let _ = tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await;
        }
        Err(error) => eprintln!("cannot open the tunnel: {error}"),
    }
}

fn failure(reason: &str) -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::whole(format!("{reason}\n")));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// The default of Envoy's `stream_idle_timeout`.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
