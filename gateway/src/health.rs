//! Is the app behind the gateway alive?
//!
//! Asked in the background and answered from memory, so that probing us costs nothing and cannot be used to keep us
//! busy. Only `<base>/_stcore/health` with status 200 and the body `ok` counts: Streamlit answers every other path with
//! its page, whatever state it is in.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::settings::Upstream;

/// Whether requests should be sent here, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The app has not answered yet, or no longer does; the text says what happened.
    NotReady(String),
    /// The app answers.
    Ready,
    /// The gateway is stopping.
    Draining,
}

/// Probes the upstream until the receiver side is gone or draining begins.
pub(crate) async fn probe(upstream: Upstream, readiness: watch::Sender<Readiness>) {
    let mut failures = 0;
    loop {
        let result = match timeout(PROBE_TIMEOUT, ask(&upstream)).await {
            Ok(result) => result,
            Err(_) => Err(format!(
                "Streamlit at {} did not answer its health check within {} seconds",
                upstream.authority(),
                PROBE_TIMEOUT.as_secs()
            )),
        };
        let next = match result {
            Ok(()) => {
                failures = 0;
                Some(Readiness::Ready)
            }
            Err(reason) => {
                failures += 1;
                // One lost probe is no outage.
                let was_ready = *readiness.borrow() == Readiness::Ready;
                (!was_ready || failures >= FAILURES_TO_UNREADY)
                    .then_some(Readiness::NotReady(reason))
            }
        };
        if *readiness.borrow() == Readiness::Draining || readiness.is_closed() {
            return;
        }
        if let Some(next) = next
            && *readiness.borrow() != next
        {
            match &next {
                Readiness::Ready => tracing::info!(upstream = upstream.authority(), "ready"),
                Readiness::NotReady(reason) => tracing::warn!(reason, "not ready"),
                Readiness::Draining => {}
            }
            readiness.send_replace(next);
        }
        let is_ready = *readiness.borrow() == Readiness::Ready;
        sleep(if is_ready {
            PROBE_INTERVAL
        } else {
            PROBE_INTERVAL_UNREADY
        })
        .await;
    }
}

async fn ask(upstream: &Upstream) -> Result<(), String> {
    let authority = upstream.authority();
    let stream = TcpStream::connect(&authority)
        .await
        .map_err(|error| format!("Streamlit at {authority} cannot be reached: {error}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("Streamlit at {authority}: {error}"))?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(format!("{}/_stcore/health", upstream.base))
        .header(http::header::HOST, &authority)
        .header(http::header::USER_AGENT, "fluxlit-gateway-probe")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| format!("Streamlit at {authority} broke off the health check: {error}"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), 64).collect().await;
    connection.abort();
    if status != http::StatusCode::OK {
        return Err(format!(
            "Streamlit at {authority} answered its health check with {status}"
        ));
    }
    let says_ok = body.is_ok_and(|body| body.to_bytes().trim_ascii() == b"ok");
    says_ok.then_some(()).ok_or_else(|| {
        format!(
            "what answers at {authority} is not a Streamlit server that is ready: {}/_stcore/health did not say ok",
            upstream.base
        )
    })
}

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_INTERVAL_UNREADY: Duration = Duration::from_millis(200);
const FAILURES_TO_UNREADY: u32 = 2;
