//! How does one request get through the filter to the upstream and back?
//!
//! Present it, forward what passed, present the response, send what passed. What the filter holds waits until a tick or a
//! call-out's answer lets it go. An upgrade is tunnelled as bytes once the upstream has agreed to it; the filter sees its
//! headers only. An upstream that cannot be reached is a 503 that passes the filter like any response, as in Envoy.

use std::cell::{RefCell, RefMut};
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use host_test::envoy::{self, RequestHead};
use host_test::{Flow, HeaderMap, Side, Stream};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::futures::OwnedNotified;

use super::super::chain;
use super::body::{FilteredBody, ProxyBody};
use super::calls::Live;
use super::headers;
use super::recording::{Recorder, Seen};
use super::report::{self, Before};

/// A filter in front of an upstream.
pub(super) struct Proxy {
    pub(super) live: Rc<Live>,
    pub(super) upstream: Upstream,
    pub(super) recorder: Option<Rc<Recorder>>,
}

/// Host and port of an HTTP server.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    authority: String,
}

/// One request on its way. When its last holder lets go of it, the stream ends and the filter's doings are printed.
pub(super) struct Exchange {
    live: Rc<Live>,
    stream: RefCell<Option<Stream>>,
    before: RefCell<Before>,
    recorder: Option<Rc<Recorder>>,
    seen: RefCell<Seen>,
}

impl Proxy {
    pub(super) async fn handle(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<ProxyBody>, Infallible> {
        let properties = envoy::connection_properties(envoy::Peer::Ip(peer), false);
        let exchange = Rc::new(Exchange {
            live: Rc::clone(&self.live),
            stream: RefCell::new(Some(self.live.plugin.stream(properties))),
            before: RefCell::default(),
            recorder: self.recorder.clone(),
            seen: RefCell::new(Seen::from(peer)),
        });
        let downstream_upgrade =
            headers::upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let body = (downstream_upgrade.is_none() && !body.is_end_stream()).then_some(body);
        let end_of_stream = downstream_upgrade.is_none() && body.is_none();
        exchange.feed_request(parts, end_of_stream);
        let mut body = FilteredBody::new(body, Rc::clone(&exchange), Side::Request);
        if let Some(answer) = exchange.settle(&mut body, Side::Request).await {
            return Ok(answer);
        }
        let request = request_from(&exchange.passed(Side::Request), body.into_body());
        let response = async { self.upstream.send(request?).await };
        let response = tokio::select! {
            response = response => response,
            // By a tick, a call-out's answer, or while the body streams.
            () = exchange.interrupted() => {
                let flow = exchange.flow(Side::Request);
                return Ok(exchange.answer(flow));
            }
        };
        Ok(match response {
            Ok(response) => exchange.respond(response, downstream_upgrade).await,
            Err(error) => exchange.answer_for_upstream(&*error).await,
        })
    }
}

impl Exchange {
    /// Ready when the filter may have let something go since this was called.
    pub(super) fn changed(&self) -> OwnedNotified {
        self.live.changed()
    }

    /// Whether the filter holds the headers, so that nothing can be sent yet.
    pub(super) fn holds_headers(&self, side: Side) -> bool {
        self.with_stream(|stream| {
            stream.headers(side).is_none() && stream.flow(side) == Flow::Paused
        })
        .unwrap_or(false)
    }

    pub(super) fn flow(&self, side: Side) -> Flow {
        self.with_stream(|stream| stream.flow(side))
            .unwrap_or(Flow::Reset)
    }

    pub(super) fn take_body(&self, side: Side) -> Vec<u8> {
        self.with_stream(|stream| stream.take_body(side))
            .unwrap_or_default()
    }

    pub(super) fn trailers(&self, side: Side) -> HeaderMap {
        self.with_stream(|stream| stream.trailers(side))
            .unwrap_or_default()
    }

    pub(super) fn feed_body(&self, side: Side, data: Vec<u8>, end_of_stream: bool) {
        self.seen.borrow_mut().body(side, &data);
        self.with_stream(|stream| match side {
            Side::Request => stream.request_body(data, end_of_stream),
            Side::Response => stream.response_body(data, end_of_stream),
        });
        self.live.after_callbacks();
    }

    pub(super) fn feed_trailers(&self, side: Side, trailers: HeaderMap) {
        self.seen.borrow_mut().trailers(side, &trailers);
        self.with_stream(|stream| match side {
            Side::Request => stream.request_trailers(trailers),
            Side::Response => stream.response_trailers(trailers),
        });
        self.live.after_callbacks();
    }

    /// The open stream; `None` only while this is dropped.
    fn stream(&self) -> RefMut<'_, Option<Stream>> {
        self.stream.borrow_mut()
    }

    fn with_stream<T>(&self, action: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.stream().as_mut().map(action)
    }

    fn passed(&self, side: Side) -> HeaderMap {
        self.with_stream(|stream| stream.headers(side))
            .flatten()
            .unwrap_or_default()
    }

    fn feed_request(&self, mut parts: http::request::Parts, end_of_stream: bool) {
        headers::remove_hop_by_hop(&mut parts.headers);
        let hosts: Vec<HeaderValue> = parts
            .headers
            .get_all(header::HOST)
            .iter()
            .cloned()
            .collect();
        parts.headers.remove(header::HOST);
        let host = (!hosts.is_empty()).then(|| {
            let hosts: Vec<&[u8]> = hosts.iter().map(HeaderValue::as_bytes).collect();
            hosts.join(&b","[..])
        });
        let target = parts.uri.to_string();
        let head = RequestHead {
            method: parts.method.as_str().as_bytes(),
            target: target.as_bytes(),
            host: host.as_deref(),
            is_tls: false,
        };
        let fields = || headers::fields(&parts.headers);
        self.seen.borrow_mut().request(&head, fields());
        let map = envoy::request_headers(head, fields());
        self.before.borrow_mut().request.clone_from(&map);
        self.with_stream(|stream| stream.request_headers(map, end_of_stream));
        self.live.after_callbacks();
    }

    fn feed_response(&self, status: StatusCode, mut fields: http::HeaderMap, end_of_stream: bool) {
        headers::remove_hop_by_hop(&mut fields);
        let map = envoy::response_headers(status.as_u16(), headers::fields(&fields));
        self.seen.borrow_mut().response(status.as_u16(), &map);
        self.before.borrow_mut().response.clone_from(&map);
        self.with_stream(|stream| stream.response_headers(map, end_of_stream));
        self.live.after_callbacks();
    }

    /// Waits until the headers have passed; the client's answer if they never will.
    async fn settle(&self, body: &mut FilteredBody, side: Side) -> Option<Response<ProxyBody>> {
        match tokio::time::timeout(STREAM_IDLE, body.settle()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Some(failure(&chain(&error))),
            Err(_) => {
                return Some(failure(
                    "the filter has held the headers for five minutes, after which Envoy gives up as well",
                ));
            }
        }
        match self.flow(side) {
            Flow::Continue | Flow::Paused => None,
            flow => Some(self.answer(flow)),
        }
    }

    /// Waits until the filter answers or resets the stream; for ever if it does not.
    async fn interrupted(&self) {
        loop {
            let changed = self.changed();
            if matches!(self.flow(Side::Request), Flow::Replied | Flow::Reset) {
                return;
            }
            changed.await;
        }
    }

    async fn respond(
        self: Rc<Self>,
        mut response: Response<Incoming>,
        downstream_upgrade: Option<OnUpgrade>,
    ) -> Response<ProxyBody> {
        let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let upstream_upgrade = is_upgraded.then(|| hyper::upgrade::on(&mut response));
        let (parts, body) = response.into_parts();
        let body = (!is_upgraded && !body.is_end_stream()).then_some(body);
        let end_of_stream = !is_upgraded && body.is_none();
        self.feed_response(parts.status, parts.headers, end_of_stream);
        let mut body = FilteredBody::new(body, Rc::clone(&self), Side::Response);
        if let Some(answer) = self.settle(&mut body, Side::Response).await {
            return answer;
        }
        if let (Some(upstream), Some(downstream)) = (upstream_upgrade, downstream_upgrade) {
            tokio::task::spawn_local(tunnel(Rc::clone(&self), downstream, upstream));
        }
        self.response(body.into_body())
    }

    /// The client's answer when the stream did not go on.
    fn answer(&self, flow: Flow) -> Response<ProxyBody> {
        match flow {
            Flow::Reset => failure("the filter reset the stream"),
            _ => self.response(ProxyBody::whole(self.take_body(Side::Response))),
        }
    }

    /// The client's answer when the upstream gave none: the filter's own if it gave one within the body, else 503.
    async fn answer_for_upstream(
        self: Rc<Self>,
        error: &(dyn Error + 'static),
    ) -> Response<ProxyBody> {
        if self.flow(Side::Request) == Flow::Replied {
            return self.answer(Flow::Replied);
        }
        eprintln!("upstream: {}", chain(error));
        let text = b"The upstream could not be reached.\n";
        let mut fields = http::HeaderMap::new();
        let content_type = HeaderValue::from_static("text/plain");
        fields.insert(header::CONTENT_TYPE, content_type);
        fields.insert(header::CONTENT_LENGTH, text.len().into());
        self.feed_response(StatusCode::SERVICE_UNAVAILABLE, fields, false);
        self.feed_body(Side::Response, text.to_vec(), true);
        let mut body = FilteredBody::new(None, Rc::clone(&self), Side::Response);
        match self.settle(&mut body, Side::Response).await {
            Some(answer) => answer,
            None => self.response(body.into_body()),
        }
    }

    /// The response headers that passed, with `body`.
    fn response(&self, body: ProxyBody) -> Response<ProxyBody> {
        let map = self.passed(Side::Response);
        let status = StatusCode::from_bytes(map.get(":status").unwrap_or_default());
        match (status, headers::from_filter(&map)) {
            (Ok(status), Ok(headers)) => {
                let mut response = Response::new(body);
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                response
            }
            _ => failure("the filter wrote a response that HTTP cannot carry"),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.get_mut().take() {
            let outcome = stream.finish();
            report::print(self.before.get_mut(), &outcome);
            let calls: Vec<_> = outcome
                .call_outs
                .iter()
                .filter_map(|call| Some((call.upstream.clone(), self.live.take_answer(call.id)?)))
                .collect();
            if let Some(recorder) = &self.recorder {
                recorder.keep(std::mem::take(self.seen.get_mut()), calls);
            }
        }
    }
}

impl Upstream {
    pub(super) async fn send(
        &self,
        request: Request<ProxyBody>,
    ) -> Result<Response<Incoming>, Box<dyn Error + Send + Sync>> {
        let connection = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await?;
        tokio::task::spawn_local(async move {
            // The request and its bodies see this error as theirs.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender.send_request(request).await?)
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let reason = "give `http://HOST:PORT`";
        let uri: Uri = text.parse().map_err(|error| format!("{error}: {reason}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("only `http` is possible: {reason}"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("a path is not possible: {reason}"));
        }
        let authority = uri.authority().ok_or(reason)?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
        })
    }
}

/// The request that a header map of the filter describes.
pub(super) fn request_from(
    map: &HeaderMap,
    body: ProxyBody,
) -> Result<Request<ProxyBody>, Box<dyn Error + Send + Sync>> {
    let path = PathAndQuery::try_from(map.get(":path").unwrap_or_default())?;
    let mut request = Request::new(body);
    *request.method_mut() = map.get(":method").unwrap_or_default().try_into()?;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers::from_filter(map)?;
    if let Some(host) = map.get(":authority") {
        let host = HeaderValue::from_bytes(host)?;
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(request)
}

/// Copies bytes both ways until both sides are done. The exchange lasts as long as the tunnel does.
async fn tunnel(_exchange: Rc<Exchange>, downstream: OnUpgrade, upstream: OnUpgrade) {
    match tokio::try_join!(downstream, upstream) {
        Ok((downstream, upstream)) => {
            let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
            // Either end may go away at any time; that is how tunnels end.
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

/// Envoy's `stream_idle_timeout`, if nothing is said.
const STREAM_IDLE: Duration = Duration::from_secs(300);
