//! What do the requests of one worker share?
//!
//! A worker is a thread. What it has is its own, but for what is counted over all of them.

pub(crate) mod admission;
pub(crate) mod warnings;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fluxlit_policy::{Peer, TrustOutcome};
use serde_json::json;
use tokio::sync::{Notify, watch};

use crate::net::buffer::Buffers;
use crate::net::tls::Tls;
use crate::observe::debug::Debug;
use crate::observe::metrics::{Metrics, Upstream};
use crate::observe::reject_reason::RejectReason;
use crate::observe::{Dispatch, Ending, HttpVersion, Observer, Record, exposition};
use crate::proxy::decide::{Plan, Step};
use crate::proxy::exchange::Progress;
use crate::proxy::local_reply::Reply;
use crate::proxy::tunnel::Tunnels;
use crate::settings::Settings;
use crate::upstream::health::Readiness;
use crate::upstream::pool::Pool;
use crate::worker::admission::{Admission, Connections};
use crate::worker::warnings::Warnings;

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) admission: Admission,
    pub(crate) connections: Arc<Connections>,
    /// None if the gateway does not terminate TLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) metrics: Arc<Metrics>,
    /// None unless the gateway is in debug mode.
    pub(crate) debug: Option<Arc<Debug>>,
    pub(crate) warnings: Warnings,
}

/// What the upstreams' probes have found.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) streamlit: watch::Receiver<Readiness>,
    pub(crate) api: Option<watch::Receiver<Readiness>>,
}

/// What the requests of one worker share.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) readiness: Watched,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) streamlit: Pool,
    pub(crate) api: Option<Pool>,
    pub(crate) tunnels: Rc<Tunnels>,
    pub(crate) drain: Drain,
    pub(crate) observer: Observer,
    date: RefCell<(u64, String)>,
    /// Memory of heads that were sent, for the next ones.
    spare_heads: RefCell<Vec<Vec<u8>>>,
}

/// A request that is under way; what became of it is told when it is dropped.
pub(crate) struct UnderWay {
    worker: Rc<Worker>,
    pub(crate) plan: Plan,
    pub(crate) progress: Progress,
    /// How it has ended. Whatever is dropped before it has is cut off because the worker stops.
    pub(crate) ending: Ending,
}

impl UnderWay {
    pub(crate) fn new(worker: &Rc<Worker>, plan: Plan) -> Self {
        Self {
            worker: Rc::clone(worker),
            plan,
            progress: Progress::default(),
            ending: Ending::Drained,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.worker
            .ended(&mut self.plan, &self.progress, self.ending);
    }
}

/// Whether the worker is stopping.
#[derive(Default)]
pub(crate) struct Drain {
    has_begun: Cell<bool>,
    begins: Notify,
}

impl Worker {
    pub(crate) fn new(
        settings: Arc<Settings>,
        shared: Arc<Shared>,
        readiness: Watched,
        observer: Observer,
    ) -> Self {
        let buffers = Buffers::new(settings.limits.head_bytes.max(SMALLEST_BUFFER));
        let pool = |authority: String| Pool::new(authority, Rc::clone(&buffers));
        Self {
            streamlit: pool(settings.upstream.authority()),
            api: settings
                .api
                .upstream
                .as_ref()
                .map(|api| pool(api.authority())),
            tunnels: Rc::default(),
            drain: Drain::default(),
            observer,
            date: RefCell::default(),
            spare_heads: RefCell::default(),
            buffers,
            readiness,
            shared,
            settings,
        }
    }

    /// Whether the probe of an upstream has found it ready.
    pub(crate) fn is_ready(&self, is_api: bool) -> bool {
        let readiness = match &self.readiness.api {
            Some(api) if is_api => api,
            _ => &self.readiness.streamlit,
        };
        !matches!(&*readiness.borrow(), Readiness::NotReady(_))
    }

    /// The time as `Date` has it, RFC 9110 §5.6.7.
    pub(crate) fn date(&self) -> String {
        let now = SystemTime::now();
        let second = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            *date = (second, httpdate::fmt_http_date(now));
        }
        date.1.clone()
    }

    /// Memory for a head.
    pub(crate) fn spare_head(&self) -> Vec<u8> {
        let spare = self.spare_heads.borrow_mut().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(HEAD))
    }

    /// Takes the memory of a head that is not needed any more.
    pub(crate) fn give_back_head(&self, mut head: Vec<u8>) {
        let mut spare = self.spare_heads.borrow_mut();
        if spare.len() < SPARE_HEADS && head.capacity() <= LARGEST_SPARE {
            head.clear();
            spare.push(head);
        }
    }

    /// Answers for a path of the gateway's own.
    pub(crate) fn internal(&self, path: &[u8], is_read: bool, is_admin: bool) -> Reply {
        let observe = &self.settings.observe;
        let may_ask = is_admin || observe.is_public;
        let body = match path {
            METRICS_PATH if observe.metrics && may_ask => {
                Some((exposition::CONTENT_TYPE, self.shared.metrics.scrape()))
            }
            DEBUG_PATH if may_ask => self
                .shared
                .debug
                .as_ref()
                .map(|debug| ("application/json", debug.answer())),
            _ => None,
        };
        match body {
            None => Reply::json(404, &json!({"detail": "Not Found"})),
            Some(_) if !is_read => Reply::json(405, &json!({"detail": "Method Not Allowed"}))
                .with("allow", b"GET, HEAD".as_slice()),
            Some((content_type, body)) => Reply::with_body(200, content_type, body.into_bytes())
                .with("cache-control", b"no-store".as_slice()),
        }
    }

    /// A request has ended.
    fn ended(&self, plan: &mut Plan, progress: &Progress, ending: Ending) {
        if let Step::Forward(forward) = &mut plan.step {
            self.give_back_head(std::mem::take(&mut forward.head));
        }
        let facts = &plan.facts;
        let duration = facts.started.elapsed();
        self.observer.ended(&Record {
            request_id: &facts.request_id,
            trace: facts.trace.as_ref(),
            dispatch: facts.dispatch,
            method: &facts.method,
            is_websocket: facts.is_websocket,
            version: Some(facts.version),
            target: &facts.target,
            host: plan.exchange.effective.host.as_deref(),
            client: plan.exchange.client_text.as_deref(),
            peer: facts.peer,
            trust: facts.trust,
            status: progress.status.get(),
            ending,
            received_bytes: progress.received.get(),
            sent_bytes: progress.sent.get(),
            started: SystemTime::now() - duration,
            duration,
            upstream_duration: progress
                .answered
                .get()
                .map(|answered| answered.saturating_duration_since(facts.started)),
        });
    }

    /// What came from this peer was no request, and was answered with this status.
    pub(crate) fn refused(
        &self,
        peer: IpAddr,
        version: Option<HttpVersion>,
        status: u16,
        label: RejectReason,
    ) {
        self.refused_as("", peer, version, status, label);
    }

    /// The same, under this id.
    pub(crate) fn refused_as(
        &self,
        request_id: &str,
        peer: IpAddr,
        version: Option<HttpVersion>,
        status: u16,
        label: RejectReason,
    ) {
        self.observer.ended(&Record {
            request_id,
            trace: None,
            dispatch: Dispatch::Gateway,
            method: b"",
            is_websocket: false,
            version,
            target: b"",
            host: None,
            client: None,
            peer,
            trust: if self.settings.policy.trusts(Peer::Ip(peer)) {
                TrustOutcome::TrustedPeer
            } else {
                TrustOutcome::Untrusted
            },
            status,
            ending: Ending::Refused(label),
            received_bytes: 0,
            sent_bytes: 0,
            started: SystemTime::now(),
            duration: Duration::ZERO,
            upstream_duration: None,
        });
    }

    /// Closes what has been idle for too long; called once a second.
    pub(crate) fn sweep(&self) {
        let pools = [
            (Upstream::Streamlit, Some(&self.streamlit)),
            (Upstream::Api, self.api.as_ref()),
        ];
        for (upstream, pool) in pools {
            let Some(pool) = pool else {
                continue;
            };
            pool.sweep();
            let (idle, in_use) = pool.count();
            self.observer.counters.pool(upstream, idle, in_use);
        }
    }
}

impl Drain {
    /// Tells everybody who waits that the worker is stopping.
    pub(crate) fn begin(&self) {
        self.has_begun.set(true);
        self.begins.notify_waiters();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Waits until the worker is stopping.
    pub(crate) async fn wait(&self) {
        let begins = self.begins.notified();
        if !self.has_begun() {
            begins.await;
        }
    }
}

/// Large enough that a body is moved in few system calls, small enough to stay in the cache.
const SMALLEST_BUFFER: usize = 64 * 1024;

/// Bytes that a head has, most often, and at the most when it is kept.
const HEAD: usize = 2048;
const LARGEST_SPARE: usize = 8192;

/// Most heads whose memory is kept.
const SPARE_HEADS: usize = 64;

/// Where metrics and debug page are, as in FluxLit.
pub(crate) const METRICS_PATH: &[u8] = b"/__fluxlit/metrics";
const DEBUG_PATH: &[u8] = b"/__fluxlit/debug";
