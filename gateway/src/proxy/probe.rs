//! Answers requests for the gateway's decision record, which the holder of the probe key can ask for.
//!
//! The policy recognizes them and writes the answer, `worker` decides whether one is answered.

use fluxlit_policy::{Hop, ProbeAnswer, Request};

use crate::proxy::local_reply::LocalReply;
use crate::worker::Worker;

/// Returns the answer, `None` for every other request and for one that must be treated like any other.
pub(super) fn probe_reply(worker: &Worker, request: &Request<'_>) -> Option<LocalReply> {
    let policy = &worker.settings.policy;
    let counters = &worker.observer.counters;
    let probe = match policy.probe(request, Hop::Gateway)? {
        Ok(probe) => probe,
        Err(outcome) => {
            counters.probe(outcome);
            return None;
        }
    };
    let outcome = worker.shared.probes.admit(&probe);
    counters.probe(outcome);
    let ProbeAnswer {
        status,
        fields,
        body,
    } = policy.answer_probe(request, &probe, outcome)?;
    let reply = LocalReply::with_body(status, ProbeAnswer::CONTENT_TYPE, body.into_bytes());
    let fields = fields.into_iter();
    Some(fields.fold(reply, |reply, (name, value)| {
        reply.with(name, value.into_bytes())
    }))
}
