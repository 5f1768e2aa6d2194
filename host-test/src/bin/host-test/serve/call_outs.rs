//! Sends the filter's call-outs while it serves live requests.
//!
//! A call-out goes to the server that `--cluster` names for its cluster, over HTTP/1.1 and a new connection. As in Envoy,
//! the filter gets the response when it is complete; then the requests that wait for the filter are woken. The host's
//! clock ends a call that exceeds its timeout, and a later response is dropped.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use fluxlit_cases::latin1;
use host_test::case_file::{CallAnswer, CallFailure};
use host_test::event::LogLine;
use host_test::vm::{CallKind, CallOut, CallResponse};
use host_test::{Plugin, envoy};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::headers;
use super::summary;
use super::upstream::{self, Upstream};

/// A started filter with the servers that it may call.
pub(super) struct RunningFilter {
    pub(super) plugin: Plugin,
    clusters: Vec<Cluster>,
    /// The ids of the calls that have been sent and have no response yet.
    pending: RefCell<BTreeSet<u32>>,
    /// Every call by its id, in the order of the calls, with its response; kept only if they are recorded.
    calls: RefCell<BTreeMap<u32, RecordedCall>>,
    /// What the plugin's own context has logged; kept only if it is recorded.
    logs: RefCell<Vec<LogLine>>,
    is_recorded: bool,
    /// Notified whenever the filter may have resumed a paused stream.
    changed: Arc<Notify>,
}

struct RecordedCall {
    cluster: String,
    made: Instant,
    /// `None` until the response has arrived.
    answer: Option<CallAnswer>,
}

/// A server that the filter may call, with the cluster name that the filter uses.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) name: String,
    server: Upstream,
}

impl RunningFilter {
    pub(super) fn new(plugin: Plugin, clusters: Vec<Cluster>, is_recorded: bool) -> Self {
        Self {
            is_recorded,
            plugin,
            clusters,
            pending: RefCell::default(),
            calls: RefCell::default(),
            logs: RefCell::default(),
            changed: Arc::default(),
        }
    }

    /// Returns a future that is ready when the filter may have resumed a paused stream since this call.
    pub(super) fn changed(&self) -> OwnedNotified {
        Arc::clone(&self.changed).notified_owned()
    }

    /// Runs the ticks and timeouts that are due.
    pub(super) fn tick(self: &Rc<Self>) {
        self.plugin.process().run_due();
        self.after_callbacks();
    }

    /// Sends the calls that the last callbacks made, and wakes the requests that wait for the filter.
    pub(super) fn after_callbacks(self: &Rc<Self>) {
        for call in self.plugin.open_calls() {
            if self.pending.borrow_mut().insert(call.id) {
                if self.is_recorded {
                    let recorded = RecordedCall {
                        cluster: call.cluster.clone(),
                        made: Instant::now(),
                        answer: None,
                    };
                    self.calls.borrow_mut().insert(call.id, recorded);
                }
                let filter = Rc::clone(self);
                tokio::task::spawn_local(async move { filter.make(call).await });
            }
        }
        self.take_logs();
        self.changed.notify_waiters();
    }

    /// Prints what the plugin's own context has logged since the last call.
    pub(super) fn take_logs(&self) {
        let logs = self.plugin.take_logs();
        summary::print_logs(&logs);
        if self.is_recorded {
            self.logs.borrow_mut().extend(logs);
        }
    }

    /// Returns what the plugin's own context has logged.
    pub(super) fn logs(&self) -> Vec<LogLine> {
        self.logs.borrow().clone()
    }

    /// Returns the clusters that the filter has called and their responses, in the order of the calls. A call without a response
    /// has timed out, or would have.
    pub(super) fn answers(&self) -> Vec<(String, CallAnswer)> {
        let timed_out = || CallAnswer {
            fails: Some(CallFailure::TimeOut),
            ..CallAnswer::default()
        };
        let calls = self.calls.borrow();
        calls
            .values()
            .map(|call| {
                let answer = call.answer.clone().unwrap_or_else(timed_out);
                (call.cluster.clone(), answer)
            })
            .collect()
    }

    async fn make(self: Rc<Self>, call: CallOut) {
        let answer = self.send(&call).await.unwrap_or_else(|error| {
            eprintln!("call to {}: {error:#}", call.cluster);
            if error.is::<std::io::Error>() {
                CallResponse::Refused
            } else {
                CallResponse::Reset
            }
        });
        if self.plugin.respond(call.id, &answer)
            && let Some(call) = self.calls.borrow_mut().get_mut(&call.id)
        {
            let delay = call.made.elapsed().as_millis();
            call.answer = Some(CallAnswer {
                delay_ms: u64::try_from(delay).unwrap_or(u64::MAX),
                ..recorded(&answer)
            });
        }
        self.pending.borrow_mut().remove(&call.id);
        self.after_callbacks();
    }

    async fn send(&self, call: &CallOut) -> anyhow::Result<CallResponse> {
        anyhow::ensure!(
            call.kind == CallKind::Http,
            "gRPC is not supported here: write the answers into a case"
        );
        let cluster = self
            .clusters
            .iter()
            .find(|cluster| cluster.name == call.cluster)
            .context("no --cluster has this name")?;
        let body = Full::<Bytes>::from(call.body.clone());
        let request = upstream::request(&call.headers, body)?;
        let (parts, body) = cluster.server.send(request).await?.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let status = parts.status.as_u16();
        Ok(CallResponse::Http {
            headers: envoy::response_headers(status, headers::fields(&parts.headers)),
            trailers: envoy::trailers(headers::fields(&trailers)),
            body: body.to_bytes().to_vec(),
        })
    }
}

/// Converts a response to the form of a case file.
fn recorded(answer: &CallResponse) -> CallAnswer {
    let failed = |failing| CallAnswer {
        fails: Some(failing),
        ..CallAnswer::default()
    };
    match answer {
        CallResponse::Http {
            headers,
            body,
            trailers,
        } => {
            let status = headers.get(":status").map(latin1::text);
            CallAnswer {
                status: status.and_then(|status| status.parse().ok()),
                headers: headers::case_fields(headers),
                body: latin1::text(body),
                trailers: headers::case_fields(trailers),
                ..CallAnswer::default()
            }
        }
        CallResponse::Refused => failed(CallFailure::Refused),
        _ => failed(CallFailure::Reset),
    }
}

impl FromStr for Cluster {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("expected `NAME=http://HOST:PORT`")?;
        Ok(Self {
            name: name.to_owned(),
            server: url.parse()?,
        })
    }
}
