//! Checks the health of the upstreams in the background.
//!
//! Readiness requests get the last result, so they cannot be used to overload an upstream. Streamlit is healthy
//! only if `<base>/_stcore/health` returns status 200 and the body `ok`, because it responds to every other path with its
//! page, whatever its state. An API is checked at the path that the operator has set, or only by opening a connection.

use std::io::IoSlice;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::http::body::Source;
use crate::http::framing::Framing;
use crate::http::head::ResponseHead;
use crate::http::reader::{Body, Reader};
use crate::net::buffer::BufferPool;
use crate::net::stream::Stream;
use crate::observe::metrics::Metrics;
use crate::observe::upstream::Upstream;
use crate::settings::{Settings, UpstreamUrl};

/// Whether the gateway is ready for requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The app has not responded yet, or no longer does. The text says what happened.
    NotReady(String),
    /// The app responds.
    Ready,
    /// The gateway is stopping.
    Draining,
}

/// Notes that an upstream has ended, so that nothing is sent to it until a health check has succeeded again.
pub(crate) fn has_ended(readiness: &watch::Sender<Readiness>, title: &str) {
    readiness.send_if_modified(|readiness| {
        let was_ready = *readiness == Readiness::Ready;
        if was_ready {
            *readiness = Readiness::NotReady(format!("{title} has ended and is restarted"));
        }
        was_ready
    });
}

/// The health check of one upstream.
pub(crate) struct HealthCheck {
    name: &'static str,
    metric: Upstream,
    upstream: UpstreamUrl,
    /// `None` to open a connection only.
    path: Option<String>,
    /// The body that a healthy upstream returns.
    expected_body: Option<&'static [u8]>,
}

/// The error when a health check fails. The text follows the name and address of the upstream.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("is not ready: {path} did not return {expected}")]
    Body { path: String, expected: String },
    #[error("closed the connection during its health check")]
    Closed,
    #[error("cannot be reached: {0}")]
    Connect(std::io::Error),
    #[error("does not speak HTTP")]
    NotHttp,
    #[error("responded to its health check with {0}")]
    Status(u16),
    #[error("did not respond to its health check within {} seconds", CHECK_TIMEOUT.as_secs())]
    Timeout,
}

impl HealthCheck {
    /// Returns the check of Streamlit.
    pub(crate) fn streamlit(settings: &Settings) -> Self {
        Self {
            name: "Streamlit",
            metric: Upstream::Streamlit,
            path: Some(format!("{}/_stcore/health", settings.upstream.base)),
            upstream: settings.upstream.clone(),
            expected_body: Some(b"ok"),
        }
    }

    /// Returns the check of the API, if there is one.
    pub(crate) fn api(settings: &Settings) -> Option<Self> {
        Some(Self {
            name: "the API",
            metric: Upstream::Api,
            upstream: settings.api.upstream.clone()?,
            path: settings.api.health_path.clone(),
            expected_body: None,
        })
    }

    /// Checks the upstream until the gateway is stopping.
    pub(crate) async fn run(self, readiness: watch::Sender<Readiness>, metrics: &Metrics) {
        let authority = self.upstream.authority();
        let mut failures = 0;
        let started = Instant::now();
        let mut was_ready = false;
        let mut is_awaited = false;
        let mut changes = readiness.subscribe();
        loop {
            changes.mark_unchanged();
            let result = timeout(CHECK_TIMEOUT, self.check(&authority)).await;
            let result = result.unwrap_or(Err(CheckError::Timeout));
            let was = readiness.borrow().clone();
            if was == Readiness::Draining {
                return;
            }
            // The upstream has ended, and may have responded before.
            if changes.has_changed().unwrap_or_default() {
                continue;
            }
            let is_refused = matches!(result, Err(CheckError::Connect(_)));
            let next = match result {
                Ok(()) => {
                    failures = 0;
                    Readiness::Ready
                }
                Err(error) => {
                    failures += 1;
                    // One failed check is not an outage.
                    if was == Readiness::Ready && failures < FAILURES_TO_UNREADY {
                        Readiness::Ready
                    } else {
                        Readiness::NotReady(format!("{} at {authority} {error}", self.name))
                    }
                }
            };
            let is_ready = next == Readiness::Ready;
            was_ready |= is_ready;
            metrics.upstream_ready(self.metric, is_ready);
            let is_late = is_awaited && started.elapsed() >= START_TIME;
            if was != next || is_late {
                let is_starting = is_refused && !was_ready && started.elapsed() < START_TIME;
                is_awaited = is_starting;
                match &next {
                    Readiness::NotReady(reason) if is_starting => {
                        tracing::info!(reason, "waiting for {}", self.name);
                    }
                    Readiness::NotReady(reason) => tracing::warn!(reason, "not ready"),
                    Readiness::Ready | Readiness::Draining => {
                        tracing::info!(upstream = authority, "{} is ready", self.name);
                    }
                }
                readiness.send_replace(next);
            }
            let interval = if is_ready {
                CHECK_INTERVAL
            } else {
                CHECK_INTERVAL_UNREADY
            };
            changes.mark_unchanged();
            // It changes here if the upstream has ended.
            let _ = timeout(interval, changes.changed()).await;
        }
    }

    async fn check(&self, authority: &str) -> Result<(), CheckError> {
        let stream = TcpStream::connect(authority).await;
        let stream = stream.map_err(CheckError::Connect)?;
        let Some(path) = &self.path else {
            return Ok(());
        };
        let stream = Stream::plain(stream);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: fluxlit-gateway-probe\r\nconnection: close\r\n\r\n"
        );
        stream
            .write_all(&mut [IoSlice::new(request.as_bytes())])
            .await
            .map_err(|_| CheckError::Closed)?;
        let mut reader = Reader::new(Rc::clone(&stream), BufferPool::new(MAX_RESPONSE));
        let length = reader
            .head(usize::MAX)
            .await
            .map_err(|_| CheckError::Closed)?;
        let head = reader.bytes().get(..length).unwrap_or_default();
        let head = ResponseHead::read(head).map_err(|_| CheckError::NotHttp)?;
        let status = head.status;
        let body = Framing::of(&head.fields)
            .response_length(head.version, status, false)
            .map_err(|_| CheckError::NotHttp)?;
        if !(200..300).contains(&status) || (self.expected_body.is_some() && status != 200) {
            return Err(CheckError::Status(status));
        }
        let Some(expected) = self.expected_body else {
            return Ok(());
        };
        reader.consume(length);
        let mut body = Body::new(&mut reader, body, MAX_RESPONSE);
        let mut received = Vec::new();
        while let Ok(Some(piece)) = body.next().await {
            received.extend_from_slice(&piece);
            if received.len() > expected.len() + 2 {
                break;
            }
        }
        if received.trim_ascii() == expected {
            return Ok(());
        }
        Err(CheckError::Body {
            path: path.clone(),
            expected: String::from_utf8_lossy(expected).into_owned(),
        })
    }
}

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const CHECK_INTERVAL_UNREADY: Duration = Duration::from_millis(200);
const FAILURES_TO_UNREADY: u32 = 2;

/// An upstream that starts with the gateway refuses connections for some seconds. Only after this time is it a fault.
const START_TIME: Duration = Duration::from_secs(30);

/// Maximum size of the response's head in bytes.
const MAX_RESPONSE: usize = 16 * 1024;
