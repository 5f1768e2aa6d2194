//! Sends a batch of spans to a collector, as OTLP over HTTP with JSON.
//!
//! A batch is sent a second time if the response's status is one that the OTLP specification calls retryable, or if there
//! is no response. Each batch has its own connection, so there are no stale connections. A response that reports a partial
//! success counts as a success.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::endpoint::Endpoint;
use super::span::{Export, Span};

/// A collector of spans.
pub(super) struct Collector {
    endpoint: Endpoint,
    /// The service name of the spans.
    service_name: String,
    tls: TlsConnector,
}

/// The reason why a batch was not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("cannot connect")]
    Connect(#[from] std::io::Error),
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
    #[error("the request is invalid")]
    Request(#[from] http::Error),
    #[error("the collector responded with {0}")]
    Status(StatusCode),
    #[error("the collector did not respond in time")]
    Timeout,
}

impl Collector {
    /// Reads the system's CA certificates if the endpoint is https, or those that the variable `SSL_CERT_FILE` names.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub(super) fn new(endpoint: Endpoint, service_name: String) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        if endpoint.tls_name.is_some() {
            let certificates = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(certificates.certs);
            if roots.is_empty() {
                return Err(std::io::Error::other(
                    "FLUXLIT_OTLP_ENDPOINT is https, but there are no CA certificates: install them (ca-certificates), or set \
                     SSL_CERT_FILE",
                ));
            }
        }
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            endpoint,
            service_name,
            tls: Arc::new(config).into(),
        })
    }

    /// Sends a batch, at most twice.
    ///
    /// # Errors
    ///
    /// If the collector did not accept it.
    pub(super) async fn send(&self, batch: &[Span]) -> Result<(), PostError> {
        // Strings and numbers always serialize.
        let body = serde_json::to_vec(&Export::new(&self.service_name, batch)).unwrap_or_default();
        let body = Bytes::from(body);
        match self.post(body.clone()).await {
            Err(error) if error.is_retryable() => {
                sleep(RETRY_PAUSE).await;
                self.post(body).await
            }
            result => result,
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), PostError> {
        let Endpoint {
            authority,
            path,
            tls_name,
        } = &self.endpoint;
        let request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .header(
                header::USER_AGENT,
                concat!("fluxlit-gateway/", env!("CARGO_PKG_VERSION")),
            )
            .body(Full::new(body))?;
        let exchange = async {
            let stream = TcpStream::connect(authority).await?;
            match tls_name {
                Some(name) => {
                    exchange(self.tls.connect(name.clone(), stream).await?, request).await
                }
                None => exchange(stream, request).await,
            }
        };
        match timeout(POST_LIMIT, exchange).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(PostError::Status(status)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(PostError::Timeout),
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, PostError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The set aborts the task when the exchange ends; an error of the connection is also that of the request.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    Ok(sender.send_request(request).await?.status())
}

impl PostError {
    /// Returns true if a second attempt with the same batch may succeed.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Request(_) => false,
            Self::Connect(_) | Self::Http(_) | Self::Timeout => true,
        }
    }
}

const RETRY_PAUSE: Duration = Duration::from_millis(500);
const POST_LIMIT: Duration = Duration::from_secs(5);
