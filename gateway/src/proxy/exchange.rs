//! Carries out one exchange: forwards the request or responds locally, and reports how it ended.
//!
//! The request's body is sent while the response is received, so a response may come early and a body may be endless. When
//! the client leaves, everything here is dropped, and the upstream connection with it.

use std::time::Instant;

use crate::http::body::Source;
use crate::observe::{Ending, Phase};
use crate::proxy::downstream::Downstream;
use crate::proxy::failure::Failure;
use crate::proxy::forward::Forwarder;
use crate::proxy::in_flight::InFlight;
use crate::proxy::local_reply::{LocalReply, RepliedTo};
use crate::proxy::outcome::Outcome;
use crate::proxy::request::{Step, Timers};

/// Carries out a plan.
pub(crate) async fn carry_out(
    request: &InFlight,
    source: &mut impl Source,
    down: &mut impl Downstream,
    timers: &mut Timers,
) -> Outcome {
    let InFlight {
        worker,
        plan,
        progress,
        ..
    } = request;
    let failure = match &plan.step {
        Step::Respond { reply, reason } => {
            let ending = reason.map_or(Ending::Complete, Ending::Rejected);
            return respond(request, reply, ending, source, down, timers).await;
        }
        Step::Forward(forward) => {
            let forwarder = Forwarder {
                worker,
                info: &plan.info,
                exchange: &plan.exchange,
                forward,
                progress,
            };
            match forwarder.run(source, down, timers).await {
                Ok(outcome) => return outcome,
                Err(failure) => failure,
            }
        }
    };
    // If the upstream failed before any of its response was written, another response can be sent.
    if progress.status.get() > 0 && down.take_back() {
        progress.status.set(0);
        progress.sent.set(0);
    }
    let Failure { ending, reply } = failure;
    match reply {
        Some(reply) if progress.status.get() == 0 => {
            respond(request, &reply, ending, source, down, timers).await
        }
        _ => Outcome::Incomplete(ending),
    }
}

/// Sends a local reply. `ending`: how the request ends if the reply can be sent.
async fn respond(
    request: &InFlight,
    reply: &LocalReply,
    ending: Ending,
    source: &impl Source,
    down: &mut impl Downstream,
    timers: &mut Timers,
) -> Outcome {
    let InFlight {
        worker,
        plan,
        progress,
        ..
    } = request;
    let replied_to = RepliedTo {
        exchange: &plan.exchange,
        request_id: &plan.info.request_id,
        is_head: plan.info.is_head,
        // What follows is the rest of the body, or may not be what the client takes for its next request: after a malformed
        // request, and after CONNECT, whose client may have sent the first bytes of its tunnel.
        closes: !source.has_ended() || reply.status == 400 || *plan.info.method == *b"CONNECT",
    };
    progress.status.set(reply.status);
    let body = reply.assemble(worker, &replied_to, |head| down.begin(head));
    let write = async {
        if !replied_to.is_head {
            down.data(&body).await?;
            progress.sent.set(body.len() as u64);
        }
        down.end(&[]).await
    };
    match timers.down.within(worker.settings.limits.idle, write).await {
        Ok(Ok(())) => Outcome::Complete {
            ending,
            at: Instant::now(),
        },
        Ok(Err(_)) => {
            progress.phase.set(Phase::Body);
            Outcome::Incomplete(Ending::ClientLeft)
        }
        Err(_) => {
            progress.phase.set(Phase::Body);
            Outcome::Incomplete(Ending::ClientTimeout)
        }
    }
}
