//! Where do the filter's call-outs go while it serves live requests?
//!
//! To the servers that `--cluster` names, over HTTP/1.1, each call on a connection of its own. The answer goes to the
//! filter when it is whole, as in Envoy; whoever waits for the filter is woken then. A call that outlives its time-out is
//! answered by the host's own clock, and what comes later is dropped.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;

use host_test::case_file::{CallAnswer, Failing};
use host_test::{Answer, CallKind, CallOut, Plugin, envoy};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::super::chain;
use super::body::ProxyBody;
use super::headers;
use super::proxy::{Upstream, request_from};

/// A running filter with the servers that it may call.
pub(super) struct Live {
    pub(super) plugin: Plugin,
    clusters: Vec<Cluster>,
    under_way: RefCell<BTreeSet<u32>>,
    answers: RefCell<BTreeMap<u32, CallAnswer>>,
    /// Told whenever the filter may have let something go.
    changed: Arc<Notify>,
}

/// A server that the filter may call, by the name that it knows.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) name: String,
    server: Upstream,
}

impl Live {
    pub(super) fn new(plugin: Plugin, clusters: Vec<Cluster>) -> Self {
        Self {
            plugin,
            clusters,
            under_way: RefCell::default(),
            answers: RefCell::default(),
            changed: Arc::default(),
        }
    }

    /// Ready when the filter may have let something go since this was called.
    pub(super) fn changed(&self) -> OwnedNotified {
        Arc::clone(&self.changed).notified_owned()
    }

    /// Ticks and time-outs that are due, and what they lead to.
    pub(super) fn tick(self: &Rc<Self>) {
        self.plugin.process().run_due();
        self.after_callbacks();
    }

    /// Makes the calls that the last callbacks asked for.
    pub(super) fn after_callbacks(self: &Rc<Self>) {
        for call in self.plugin.open_calls() {
            if self.under_way.borrow_mut().insert(call.id) {
                let live = Rc::clone(self);
                tokio::task::spawn_local(async move { live.make(call).await });
            }
        }
        self.changed.notify_waiters();
    }

    /// How the call with this id was answered, if it was.
    pub(super) fn take_answer(&self, call: u32) -> Option<CallAnswer> {
        self.answers.borrow_mut().remove(&call)
    }

    async fn make(self: Rc<Self>, call: CallOut) {
        let answer = self.ask(&call).await.unwrap_or_else(|error| {
            eprintln!("call to {}: {}", call.upstream, chain(&*error));
            let is_refused = error.downcast_ref::<std::io::Error>().is_some();
            if is_refused {
                Answer::Refused
            } else {
                Answer::Reset
            }
        });
        if self.plugin.answer(call.id, &answer) {
            let answer = recorded(&answer);
            self.answers.borrow_mut().insert(call.id, answer);
        }
        self.under_way.borrow_mut().remove(&call.id);
        self.after_callbacks();
    }

    async fn ask(&self, call: &CallOut) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        if call.kind != CallKind::Http {
            return Err("gRPC is not spoken here; write the answers into a case".into());
        }
        let cluster = self
            .clusters
            .iter()
            .find(|cluster| cluster.name == call.upstream)
            .ok_or("no such cluster")?;
        let body = ProxyBody::whole(call.body.clone());
        let request = request_from(&call.headers, body)?;
        let (parts, body) = cluster.server.send(request).await?.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Answer::Http {
            headers: envoy::response_headers(
                parts.status.as_u16(),
                headers::fields(&parts.headers),
            ),
            trailers: envoy::trailers(headers::fields(&trailers)),
            body: body.to_bytes().to_vec(),
        })
    }
}

/// The answer as a case file has it.
fn recorded(answer: &Answer) -> CallAnswer {
    match answer {
        Answer::Http {
            headers,
            body,
            trailers,
        } => {
            let status = headers.get(":status").map(latin1);
            CallAnswer {
                status: status.and_then(|status| status.parse().ok()),
                headers: lines(headers),
                body: latin1(body),
                trailers: lines(trailers),
                ..CallAnswer::default()
            }
        }
        Answer::Refused => CallAnswer {
            fails: Some(Failing::Refused),
            ..CallAnswer::default()
        },
        _ => CallAnswer {
            fails: Some(Failing::Reset),
            ..CallAnswer::default()
        },
    }
}

/// Field lines as a case file has them, without pseudo-headers.
pub(super) fn lines(map: &host_test::HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .filter(|(name, _)| !name.starts_with(b":"))
        .map(|(name, value)| (latin1(name), latin1(value)))
        .collect()
}

/// Bytes as a case file has them.
pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

impl FromStr for Cluster {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("give `NAME=http://HOST:PORT`")?;
        Ok(Self {
            name: name.to_owned(),
            server: url.parse()?,
        })
    }
}
