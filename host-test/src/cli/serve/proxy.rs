//! How does one request get through the filter to the upstream and back?
//!
//! Present it, forward what passed, present the response, send what passed. An upgrade is tunnelled as bytes once the
//! upstream has agreed to it; the filter sees its headers only. An upstream that cannot be reached is a 503 that passes
//! the filter like any response, as in Envoy.

use std::cell::{RefCell, RefMut};
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::str::FromStr;

use host_test::envoy::{self, RequestHead};
use host_test::{Flow, HeaderMap, Plugin, Side, Stream};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::super::chain;
use super::body::{FilteredBody, ProxyBody};
use super::headers;
use super::report::{self, Before};

/// A filter in front of an upstream.
pub(super) struct Proxy {
    pub(super) plugin: Plugin,
    pub(super) upstream: Upstream,
}

/// Host and port of an HTTP server.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    authority: String,
}

/// One request on its way. When its last holder lets go of it, the stream ends and the filter's doings are printed.
pub(super) struct Exchange {
    stream: RefCell<Option<Stream>>,
    before: RefCell<Before>,
}

impl Proxy {
    pub(super) async fn handle(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<ProxyBody>, Infallible> {
        let properties = envoy::connection_properties(envoy::Peer::Ip(peer), false);
        let exchange = Rc::new(Exchange {
            stream: RefCell::new(Some(self.plugin.stream(properties))),
            before: RefCell::default(),
        });
        let downstream_upgrade =
            headers::upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let end_of_stream = downstream_upgrade.is_none() && body.is_end_stream();
        let flow = exchange.feed_request(parts, end_of_stream);
        if flow != Flow::Continue {
            return Ok(exchange.answer(flow, Side::Request));
        }
        let body = if end_of_stream {
            ProxyBody::empty()
        } else {
            ProxyBody::Filtered(FilteredBody::new(body, Rc::clone(&exchange), Side::Request))
        };
        let response = match exchange.upstream_request(body) {
            Ok(request) => self.upstream.send(request).await,
            Err(error) => Err(error),
        };
        Ok(match response {
            Ok(response) => exchange.respond(response, downstream_upgrade),
            Err(error) => exchange.answer_for_upstream(&*error),
        })
    }
}

impl Exchange {
    /// The open stream; `None` only while this is dropped.
    pub(super) fn stream(&self) -> RefMut<'_, Option<Stream>> {
        self.stream.borrow_mut()
    }

    pub(super) fn take_body(&self, side: Side) -> Vec<u8> {
        self.with_stream(|stream| stream.take_body(side))
            .unwrap_or_default()
    }

    fn with_stream<T>(&self, action: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.stream().as_mut().map(action)
    }

    fn passed(&self, side: Side) -> HeaderMap {
        self.with_stream(|stream| stream.headers(side))
            .flatten()
            .unwrap_or_default()
    }

    fn feed_request(&self, mut parts: http::request::Parts, end_of_stream: bool) -> Flow {
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
        let map = envoy::request_headers(
            RequestHead {
                method: parts.method.as_str().as_bytes(),
                target: parts.uri.to_string().as_bytes(),
                host: host.as_deref(),
                is_tls: false,
            },
            headers::fields(&parts.headers),
        );
        self.before.borrow_mut().request.clone_from(&map);
        self.with_stream(|stream| stream.request_headers(map, end_of_stream))
            .unwrap_or(Flow::Reset)
    }

    fn feed_response(
        &self,
        status: StatusCode,
        mut fields: http::HeaderMap,
        end_of_stream: bool,
    ) -> Flow {
        headers::remove_hop_by_hop(&mut fields);
        let map = envoy::response_headers(status.as_u16(), headers::fields(&fields));
        self.before.borrow_mut().response.clone_from(&map);
        self.with_stream(|stream| stream.response_headers(map, end_of_stream))
            .unwrap_or(Flow::Reset)
    }

    fn upstream_request(
        &self,
        body: ProxyBody,
    ) -> Result<Request<ProxyBody>, Box<dyn Error + Send + Sync>> {
        let map = self.passed(Side::Request);
        let path = PathAndQuery::try_from(map.get(":path").unwrap_or_default())?;
        let mut request = Request::new(body);
        *request.method_mut() = map.get(":method").unwrap_or_default().try_into()?;
        *request.uri_mut() = Uri::from(path);
        *request.headers_mut() = headers::from_filter(&map)?;
        if let Some(host) = map.get(":authority") {
            let host = HeaderValue::from_bytes(host)?;
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }

    fn respond(
        self: Rc<Self>,
        mut response: Response<Incoming>,
        downstream_upgrade: Option<OnUpgrade>,
    ) -> Response<ProxyBody> {
        let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let upstream_upgrade = is_upgraded.then(|| hyper::upgrade::on(&mut response));
        let (parts, body) = response.into_parts();
        let end_of_stream = !is_upgraded && body.is_end_stream();
        let flow = self.feed_response(parts.status, parts.headers, end_of_stream);
        if flow != Flow::Continue {
            return self.answer(flow, Side::Response);
        }
        let body = match (upstream_upgrade, downstream_upgrade) {
            (Some(upstream), Some(downstream)) => {
                tokio::task::spawn_local(tunnel(Rc::clone(&self), downstream, upstream));
                ProxyBody::empty()
            }
            _ if end_of_stream => ProxyBody::empty(),
            _ => ProxyBody::Filtered(FilteredBody::new(body, Rc::clone(&self), Side::Response)),
        };
        self.response(body)
    }

    /// The client's answer when `side` did not go on.
    fn answer(&self, flow: Flow, side: Side) -> Response<ProxyBody> {
        match flow {
            Flow::Continue | Flow::Replied => {
                let body = self.take_body(Side::Response);
                self.response(ProxyBody::whole(body))
            }
            Flow::Paused => {
                let side = match side {
                    Side::Request => "request",
                    Side::Response => "response",
                };
                failure(&format!(
                    "the filter left the {side} paused, and nothing here would continue it"
                ))
            }
            Flow::Reset => failure("the filter reset the stream"),
        }
    }

    /// The client's answer when the upstream gave none: the filter's own if it gave one within the body, else 503.
    fn answer_for_upstream(&self, error: &(dyn Error + 'static)) -> Response<ProxyBody> {
        let flow = self.with_stream(|stream| stream.flow(Side::Request));
        if flow == Some(Flow::Replied) {
            return self.answer(Flow::Replied, Side::Request);
        }
        eprintln!("upstream: {}", chain(error));
        let text = b"The upstream could not be reached.\n";
        let mut fields = http::HeaderMap::new();
        let content_type = HeaderValue::from_static("text/plain");
        fields.insert(header::CONTENT_TYPE, content_type);
        fields.insert(header::CONTENT_LENGTH, text.len().into());
        let flow = self.feed_response(StatusCode::SERVICE_UNAVAILABLE, fields, false);
        let flow = match flow {
            Flow::Continue => self
                .with_stream(|stream| stream.response_body(text.to_vec(), true))
                .unwrap_or(Flow::Reset),
            flow => flow,
        };
        self.answer(flow, Side::Response)
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
            report::print(self.before.get_mut(), &stream.finish());
        }
    }
}

impl Upstream {
    async fn send(
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
