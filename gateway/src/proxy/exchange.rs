//! How does a request get its answer from the upstream?
//!
//! The request's body goes up while the answer comes down, so an answer may come early and a body may be endless. When
//! the client leaves, everything here is dropped, and the upstream's connection with it.

use std::cell::Cell;
use std::time::Duration;

use crate::http::body::Source;
use crate::http::framing::Length;
use crate::net::timer::Timer;
use crate::observe::Ending;
use crate::proxy::decide::{Plan, Step};
use crate::proxy::downstream::{AnswerHead, Downstream};
use crate::proxy::failure::Failure;
use crate::proxy::forward::Way;
use crate::proxy::local_reply::{self, Reply};
use crate::upstream::pool::Connection;
use crate::worker::Worker;

/// What has happened of an exchange so far.
#[derive(Default)]
pub(crate) struct Progress {
    /// Bytes of the request's body.
    pub(crate) received: Cell<u64>,
    /// Bytes of the answer's body.
    pub(crate) sent: Cell<u64>,
    /// The status of the answer; 0 before it has begun.
    pub(crate) status: Cell<u16>,
    /// When the head of the upstream's answer was there.
    pub(crate) answered: Cell<Option<std::time::Instant>>,
}

/// The two timers of an exchange: one for each direction.
#[derive(Default)]
pub(crate) struct Timers {
    pub(super) up: Timer,
    pub(super) down: Timer,
}

/// How an exchange has ended.
pub(crate) enum End {
    /// The answer is complete.
    Complete,
    /// The answer is not, and the connection or stream must end.
    Broken,
    /// Both sides have switched to WebSocket.
    Tunnel(Box<Connection>),
}

/// Carries a plan out.
pub(crate) async fn carry_out(
    worker: &Worker,
    plan: &mut Plan,
    source: &mut impl Source,
    down: &mut impl Downstream,
    timers: &mut Timers,
    progress: &Progress,
) -> (End, Ending) {
    let Plan {
        facts,
        exchange,
        step,
    } = &mut *plan;
    let failure = match step {
        Step::Answer(reply) => Failure {
            ending: facts.refused.map_or(Ending::Complete, Ending::Refused),
            reply: Some(reply.clone()),
        },
        Step::Forward(forward) => {
            let mut way = Way {
                worker,
                facts,
                exchange,
                forward,
                progress,
            };
            match way.forward(source, down, timers).await {
                Ok(end) => return (end, Ending::Complete),
                Err(failure) => failure,
            }
        }
    };
    // The upstream's answer may have broken off before any of it was passed on; then there is none yet.
    if progress.status.get() > 0 && down.take_back() {
        progress.status.set(0);
        progress.sent.set(0);
    }
    match failure.reply {
        Some(reply) if progress.status.get() == 0 => {
            let is_early = !source.has_ended();
            let answered = answer(worker, plan, &reply, is_early, down, timers, progress).await;
            let ending = match answered {
                Ok(()) => failure.ending,
                Err(ending) => ending,
            };
            let end = answered.map_or(End::Broken, |()| End::Complete);
            (end, ending)
        }
        _ => (End::Broken, failure.ending),
    }
}

/// Sends an answer of our own.
async fn answer(
    worker: &Worker,
    plan: &Plan,
    reply: &Reply,
    is_early: bool,
    down: &mut impl Downstream,
    timers: &mut Timers,
    progress: &Progress,
) -> Result<(), Ending> {
    let Plan {
        facts, exchange, ..
    } = plan;
    let body = reply.body_for(&facts.request_id);
    let length = body.len().to_string();
    let date = worker.date();
    let mut fields: Vec<fluxlit_policy::Header<'_>> = vec![
        (b"content-type", reply.content_type.as_bytes()),
        (b"date", date.as_bytes()),
    ];
    fields.extend(
        reply
            .fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), &**value)),
    );
    let decision = worker.settings.policy.response(
        exchange,
        &fluxlit_policy::Response {
            status: reply.status,
            headers: &fields,
        },
    );
    progress.status.set(reply.status);
    down.begin(&AnswerHead {
        status: reply.status,
        reason: local_reply::reason(reply.status).as_bytes(),
        fields: &fields,
        edits: &decision.edits,
        length: if facts.to_head {
            Length::Empty
        } else {
            Length::Exact(body.len() as u64)
        },
        declared: facts.to_head.then_some(length.as_bytes()),
        is_early,
        request_id: Some(&facts.request_id),
    });
    let write = async {
        if !facts.to_head {
            down.data(&body).await?;
            progress.sent.set(body.len() as u64);
        }
        down.end(&[]).await
    };
    match timers.down.within(worker.settings.limits.idle, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ending::ClientLeft),
        Err(_) => Err(Ending::ClientTimeout),
    }
}

/// How long a connection that will not be read any further is kept, so that its answer arrives before it is reset.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
