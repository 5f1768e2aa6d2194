//! Is the app behind the gateway alive?
//!
//! Asked in the background and answered from memory, so that probing us costs nothing and cannot be used to keep us
//! busy. Of Streamlit only `<base>/_stcore/health` with status 200 and the body `ok` counts: it answers every other path
//! with its page, whatever state it is in. An API is asked at the path that the operator has named, or only whether it
//! takes a connection.

use std::io::IoSlice;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::http::body::Source;
use crate::http::framing::Transport;
use crate::http::head::ResponseHead;
use crate::http::reader::{Body, Reader};
use crate::net::buffer::Buffers;
use crate::net::stream::Io;
use crate::observe::metrics::{self, Metrics};
use crate::settings::{Settings, Upstream};

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

/// What is asked of an upstream, and what must come back.
pub(crate) struct Probe {
    name: &'static str,
    counted: metrics::Upstream,
    upstream: Upstream,
    /// None: only whether it takes a connection.
    path: Option<String>,
    /// What the body must say.
    says: Option<&'static [u8]>,
}

impl Probe {
    /// Streamlit's own health check.
    pub(crate) fn streamlit(settings: &Settings) -> Self {
        Self {
            name: "Streamlit",
            counted: metrics::Upstream::Streamlit,
            path: Some(format!("{}/_stcore/health", settings.upstream.base)),
            upstream: settings.upstream.clone(),
            says: Some(b"ok"),
        }
    }

    /// The API's, if there is an API.
    pub(crate) fn api(settings: &Settings) -> Option<Self> {
        Some(Self {
            name: "the API",
            counted: metrics::Upstream::Api,
            upstream: settings.api.upstream.clone()?,
            path: settings.api.health_path.clone(),
            says: None,
        })
    }

    /// Probes the upstream until nobody wants to know, or the gateway is stopping.
    pub(crate) async fn run(self, readiness: watch::Sender<Readiness>, metrics: &Metrics) {
        let authority = self.upstream.authority();
        let mut failures = 0;
        loop {
            let result = match timeout(PROBE_TIMEOUT, self.ask(&authority)).await {
                Ok(result) => result,
                Err(_) => Err(format!(
                    "{} at {authority} did not answer its health check within {} seconds",
                    self.name,
                    PROBE_TIMEOUT.as_secs()
                )),
            };
            let was = readiness.borrow().clone();
            if was == Readiness::Draining || readiness.is_closed() {
                return;
            }
            let next = match result {
                Ok(()) => {
                    failures = 0;
                    Readiness::Ready
                }
                Err(reason) => {
                    failures += 1;
                    // One lost probe is no outage.
                    if was == Readiness::Ready && failures < FAILURES_TO_UNREADY {
                        Readiness::Ready
                    } else {
                        Readiness::NotReady(reason)
                    }
                }
            };
            let is_ready = next == Readiness::Ready;
            metrics.upstream_ready(self.counted, is_ready);
            if was != next {
                match &next {
                    Readiness::NotReady(reason) => tracing::warn!(reason, "not ready"),
                    Readiness::Ready | Readiness::Draining => {
                        tracing::info!(upstream = authority, "{} is ready", self.name);
                    }
                }
                readiness.send_replace(next);
            }
            sleep(if is_ready {
                PROBE_INTERVAL
            } else {
                PROBE_INTERVAL_UNREADY
            })
            .await;
        }
    }

    async fn ask(&self, authority: &str) -> Result<(), String> {
        let name = self.name;
        let stream = TcpStream::connect(authority)
            .await
            .map_err(|error| format!("{name} at {authority} cannot be reached: {error}"))?;
        let Some(path) = &self.path else {
            return Ok(());
        };
        let broke = || format!("{name} at {authority} broke off the health check");
        let io = Io::plain(stream);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: fluxlit-gateway-probe\r\nconnection: close\r\n\r\n"
        );
        io.write_all(&mut [IoSlice::new(request.as_bytes())])
            .await
            .map_err(|_| broke())?;
        let mut reader = Reader::new(Rc::clone(&io), Buffers::new(ANSWER_BYTES));
        let length = reader.head(usize::MAX).await.map_err(|_| broke())?;
        let no_http = || format!("what answers at {authority} does not speak HTTP");
        let head = reader.bytes().get(..length).unwrap_or_default();
        let head = ResponseHead::read(head).map_err(|_| no_http())?;
        let status = head.status;
        let body = Transport::of(&head.fields)
            .response_length(head.version, status, false)
            .map_err(|_| no_http())?;
        if !(200..300).contains(&status) || (self.says.is_some() && status != 200) {
            return Err(format!(
                "{name} at {authority} answered its health check with {status}"
            ));
        }
        let Some(says) = self.says else {
            return Ok(());
        };
        reader.consume(length);
        let mut body = Body::new(&mut reader, body, ANSWER_BYTES);
        let mut said = Vec::new();
        while let Ok(Some(piece)) = body.next().await {
            said.extend_from_slice(&piece);
            if said.len() > says.len() + 2 {
                break;
            }
        }
        if said.trim_ascii() == says {
            return Ok(());
        }
        Err(format!(
            "what answers at {authority} is not a {name} server that is ready: {path} did not say {}",
            String::from_utf8_lossy(says)
        ))
    }
}

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_INTERVAL_UNREADY: Duration = Duration::from_millis(200);
const FAILURES_TO_UNREADY: u32 = 2;

/// Most bytes of an answer's head.
const ANSWER_BYTES: usize = 16 * 1024;
