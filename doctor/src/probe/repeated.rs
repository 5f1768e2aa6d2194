//! Sends one request many times (P30, P31), and reports what the other checks have met as well.

use crate::client::is_refusal;
use crate::outcome::Outcome;
use crate::probe::connections::beside_websockets;
use crate::probe::context::Context;
use crate::probe::rate::websockets;
use crate::probe::refusal::{Cause, Watch};

/// P30: repeats one request quickly.
pub(crate) async fn quickly(context: &Context, watch: &mut Watch, outcome: &mut Outcome) {
    if let Err(reason) = repeat(context, watch, REQUESTS).await {
        return outcome.skip(reason);
    }
    let mut open = 0;
    if watch.find(context).await.is_none() {
        let beside = beside_websockets(context).await;
        open = beside.open;
        watch.cause = beside.limit.map(Cause::Limit);
    }
    let limit = match &watch.cause {
        Some(Cause::Limit(limit)) => limit,
        Some(cause @ (Cause::SamePage | Cause::Upstream(_))) => {
            return outcome.skip(cause.reason());
        }
        None if is_refusal(context.health.status) => {
            let status = context.health.status;
            return outcome.skip(format!("every health check is answered {status}; see P05"));
        }
        None => {
            let beside = match open {
                0 => String::new(),
                open => format!(", nor is one while {} open", websockets(open)),
            };
            return outcome.right(format!(
                "{REQUESTS} requests, one after the other, are not refused{beside}"
            ));
        }
    };
    let (finding, hint) = limit.explain();
    outcome.fail(finding, hint);
}

/// P31: repeats one request, if no other check has found an upstream that fails.
pub(crate) async fn reach(context: &Context, watch: &mut Watch, outcome: &mut Outcome) {
    if let Err(reason) = repeat(context, watch, FEW).await {
        return outcome.skip(reason);
    }
    match watch.find(context).await {
        None => outcome.right(format!(
            "{FEW} requests, one after the other, reach the app"
        )),
        Some(cause @ (Cause::Limit(_) | Cause::SamePage)) => outcome.skip(cause.reason()),
        Some(Cause::Upstream(fault)) if fault.is_past => outcome.warn(&fault.finding, &fault.hint),
        Some(Cause::Upstream(fault)) => outcome.fail(&fault.finding, &fault.hint),
    }
}

/// Sends the health check this often, or until it is refused, unless the cause of refusals is known.
async fn repeat(context: &Context, watch: &Watch, count: usize) -> Result<(), String> {
    let path = context.client.site.path("/_stcore/health");
    if watch.cause.is_some() {
        return Ok(());
    }
    for _ in 0..count {
        match context.client.get(&path).await {
            Ok(response) if is_refusal(response.status) => break,
            Ok(_) => {}
            Err(failure) => return Err(format!("`{path}`: {failure}")),
        }
    }
    Ok(())
}

/// About as many as a page sends at first.
const REQUESTS: usize = 30;

/// With up to ten upstreams that take turns, each is asked.
const FEW: usize = 10;
