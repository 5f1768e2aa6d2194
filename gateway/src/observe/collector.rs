//! How is a batch of spans handed to a collector?
//!
//! By OTLP over HTTP with JSON. What cannot be taken now is sent once more, by the OTLP specification's list of answers
//! that may pass.
//!
//! Plain http only: a collector stands beside the gateway, and forwards over TLS if it is to. A connection is opened for
//! each batch, so there is none that could have gone stale. A collector that takes a batch in part is believed.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::otlp::Endpoint;
use super::span::{Export, Span};

/// Who takes spans.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) endpoint: Endpoint,
    /// The service that spans are of.
    pub(super) service_name: String,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("there is no connection")]
    Connect(#[from] std::io::Error),
    #[error("the connection broke")]
    Http(#[from] hyper::Error),
    #[error("no request can be made")]
    Request(#[from] http::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it did not answer in time")]
    Timeout,
}

impl Collector {
    /// Sends a batch, twice if need be.
    ///
    /// # Errors
    ///
    /// If it was not taken.
    pub(super) async fn send(&self, batch: &[Span]) -> Result<(), PostError> {
        // Text and numbers are always JSON.
        let body = serde_json::to_vec(&Export::new(&self.service_name, batch)).unwrap_or_default();
        let body = Bytes::from(body);
        match self.post(body.clone()).await {
            Err(error) if error.may_pass() => {
                sleep(RETRY_PAUSE).await;
                self.post(body).await
            }
            result => result,
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), PostError> {
        let Endpoint { authority, path } = &self.endpoint;
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
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Ends with this exchange, and how it ends is told to the request.
            let mut connections = JoinSet::new();
            connections.spawn(connection);
            Ok(sender.send_request(request).await?.status())
        };
        match timeout(POST_LIMIT, exchange).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(PostError::Status(status)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(PostError::Timeout),
        }
    }
}

impl PostError {
    /// Whether the same batch may be taken a moment later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Request(_) => false,
            Self::Connect(_) | Self::Http(_) | Self::Timeout => true,
        }
    }
}

const RETRY_PAUSE: Duration = Duration::from_millis(500);
const POST_LIMIT: Duration = Duration::from_secs(5);
