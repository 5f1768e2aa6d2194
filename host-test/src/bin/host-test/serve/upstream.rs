//! Sends requests to an HTTP server, each over a new connection.

use std::str::FromStr;

use anyhow::Context as _;
use bytes::Bytes;
use host_test::HeaderMap;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::headers;

/// Host and port of an HTTP server.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    authority: String,
}

impl Upstream {
    pub(super) async fn send<B>(&self, request: Request<B>) -> anyhow::Result<Response<Incoming>>
    where
        B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + 'static,
    {
        let connection = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await?;
        tokio::task::spawn_local(async move {
            // The request and its bodies report this error.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender.send_request(request).await?)
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected `http://HOST:PORT`";
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("{error}: {expected}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("only `http` is supported: {expected}"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("a path is not supported: {expected}"));
        }
        let authority = uri.authority().ok_or(expected)?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
        })
    }
}

/// Builds the request that a header map of the filter describes.
pub(super) fn request<B>(map: &HeaderMap, body: B) -> anyhow::Result<Request<B>> {
    let path = PathAndQuery::try_from(map.get(":path").unwrap_or_default())
        .context("the filter wrote an invalid path")?;
    let mut request = Request::new(body);
    *request.method_mut() = map.get(":method").unwrap_or_default().try_into()?;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers::to_http(map)?;
    if let Some(host) = map.get(":authority") {
        let host = HeaderValue::from_bytes(host)?;
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(request)
}
