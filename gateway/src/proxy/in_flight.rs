//! Records requests in logs, metrics and spans when they end.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use fluxlit_policy::{Peer, TrustOutcome};

use crate::observe::reject_reason::RejectReason;
use crate::observe::{Dispatch, Ending, HttpVersion, Phase, Record};
use crate::proxy::request::{Plan, Progress, Step};
use crate::worker::Worker;

/// A request in flight. It is recorded when this is dropped.
pub(crate) struct InFlight {
    pub(super) worker: Rc<Worker>,
    /// On the heap, because it is large and moves into several futures.
    pub(crate) plan: Box<Plan>,
    pub(crate) progress: Progress,
    /// How the request has ended. If it is dropped before its end, it was cut off because the worker stops.
    pub(crate) ending: Ending,
    /// When it has ended, if that is known; otherwise when this is dropped.
    pub(crate) ended: Option<Instant>,
}

impl InFlight {
    pub(crate) fn new(worker: &Rc<Worker>, plan: Box<Plan>) -> Self {
        Self {
            worker: Rc::clone(worker),
            plan,
            progress: Progress::default(),
            ending: Ending::Drained,
            ended: None,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Self {
            worker,
            plan,
            progress,
            ending,
            ended,
        } = self;
        if let Step::Forward(forward) = &mut plan.step {
            worker.give_back_head(std::mem::take(&mut forward.head));
        }
        let info = &plan.info;
        let ended = ended.unwrap_or_else(Instant::now);
        worker.observer.ended(&Record {
            request_id: &info.request_id,
            trace: info.trace.as_ref(),
            dispatch: info.dispatch,
            method: &info.method,
            is_websocket: info.is_websocket,
            version: Some(info.version),
            target: &info.target,
            host: plan.exchange.effective.host.as_deref(),
            client: plan.exchange.client_text.as_deref(),
            peer: info.peer,
            trust: info.trust,
            status: progress.status.get(),
            ending: *ending,
            phase: progress.phase.get(),
            received_bytes: progress.received.get(),
            sent_bytes: progress.sent.get(),
            started: info.date,
            duration: ended.saturating_duration_since(info.started),
            upstream_duration: progress
                .responded
                .get()
                .map(|responded| responded.saturating_duration_since(info.started)),
        });
    }
}

/// Records a request that could not be parsed, or a connection that was rejected before one was read. `version` is `None`
/// for the latter.
pub(crate) fn record_unparsed(
    worker: &Worker,
    request_id: &str,
    peer: IpAddr,
    version: Option<HttpVersion>,
    status: u16,
    reason: RejectReason,
) {
    let is_trusted = worker.settings.policy.trusts(Peer::Ip(peer));
    worker.observer.ended(&Record {
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
        trust: if is_trusted {
            TrustOutcome::TrustedPeer
        } else {
            TrustOutcome::Untrusted
        },
        status,
        ending: Ending::Rejected(reason),
        phase: Phase::Head,
        received_bytes: 0,
        sent_bytes: 0,
        started: SystemTime::now(),
        duration: Duration::ZERO,
        upstream_duration: None,
    });
}
