//! Finds out whether a hop limits the rate of requests, or the number of connections (P30).
//!
//! Such a hop refuses, with 429 or 503, what it has accepted before. Each check that meets it would blame what it asks for, so
//! after a refusal the same request is repeated: after a pause until it passes, then at once until it is refused again. If it
//! is not, it is repeated while a WebSocket is open. A server that is down or restarts does not answer like that.

use tokio::time::sleep;

use crate::client::{Ask, Response, is_refusal};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::RATE;
use crate::probe::front::Hop;
use crate::probe::retry::{self, PAUSES};

/// What is known about a limit so far.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    limit: Option<Limit>,
    /// How often a refusal was something else.
    others: usize,
}

/// A limit that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    /// The request, such as `GET /apps/my-app/`.
    request: String,
    /// The status with which it has passed; `None` if that was not seen.
    passed: Option<u16>,
    refused: u16,
    /// It is refused while a WebSocket is open.
    is_of_connections: bool,
    by: Hop,
}

impl Watch {
    /// Returns why a check that met refusals cannot be believed; `None` if there is no limit. `before`: the number of refusals
    /// before the check.
    pub(crate) async fn reason(&mut self, context: &Context, before: usize) -> Option<String> {
        if context.client.refusals().count == before {
            return None;
        }
        let limit = self.find(context).await?;
        let which = if limit.is_of_connections {
            "while a WebSocket is open"
        } else {
            "that come too fast"
        };
        Some(format!(
            "{} refuses requests {which} ({}); see P30",
            limit.by.name(),
            limit.refused
        ))
    }

    /// Looks for the limit behind the last refusal.
    async fn find(&mut self, context: &Context) -> Option<Limit> {
        if self.limit.is_none() && self.others < MAX_OTHERS {
            let (ask, status) = context.client.refusals().last?;
            self.limit = confirm(context, ask, status).await;
            if self.limit.is_none() {
                self.limit = beside_websocket(context).await;
            }
            if self.limit.is_none() {
                self.others = self.others.saturating_add(1);
            }
        }
        self.limit.clone()
    }
}

/// P30: repeats one request quickly.
pub(crate) async fn limit(context: &Context, watch: &mut Watch, outcome: &mut Outcome) {
    let path = context.client.site.path("/_stcore/health");
    if watch.limit.is_none() {
        for _ in 0..REQUESTS {
            match context.client.get(&path).await {
                Ok(response) if is_refusal(response.status) => break,
                Ok(_) => {}
                Err(failure) => return outcome.skip(format!("`{path}`: {failure}")),
            }
        }
    }
    if watch.find(context).await.is_none() {
        watch.limit = beside_websocket(context).await;
    }
    let Some(limit) = watch.limit.clone() else {
        if is_refusal(context.health.status) {
            let status = context.health.status;
            return outcome.skip(format!("every health check is answered {status}; see P05"));
        }
        return outcome.right(format!(
            "{REQUESTS} requests, one after the other, are not refused, nor is one while a WebSocket is open"
        ));
    };
    let passed = limit.passed.map_or_else(
        || "answered".to_owned(),
        |status| format!("answered {status} and,"),
    );
    let (when, what) = if limit.is_of_connections {
        (
            "while a WebSocket is open",
            "number of connections of a client, and each open page has one",
        )
    } else {
        ("when it is repeated", "rate or the number of requests")
    };
    let when = limit.passed.map_or(String::new(), |_| format!(" {when},"));
    outcome.fail(
        format!(
            "`{}` is {passed}{when} {} by {}: a hop limits the {what}, so a page that loads its files at the same time gets only some of them",
            limit.request,
            limit.refused,
            limit.by.name()
        ),
        RATE.hint(context.hop(limit.by)),
    );
}

/// Sends a request while a WebSocket is open, and again without one.
async fn beside_websocket(context: &Context) -> Option<Limit> {
    let ask = Ask::get(context.client.site.path("/_stcore/health"));
    let (response, socket) = context.client.open(&context.handshake()).await.ok()?;
    if response.status != 101 {
        return None;
    }
    let refused = context.client.send(&ask).await;
    socket.close().await;
    let refused = refused.ok().filter(|refused| is_refusal(refused.status))?;
    let alone = retry::get(&context.client, ask.target.clone(), true)
        .await
        .ok()?;
    (!is_refusal(alone.status)).then(|| Limit {
        request: format!("{} {}", ask.method, ask.target),
        passed: Some(alone.status),
        refused: refused.status,
        is_of_connections: true,
        by: context.by(&refused),
    })
}

/// Repeats a request that was refused.
async fn confirm(context: &Context, ask: Ask, status: u16) -> Option<Limit> {
    // Nothing is written again.
    let ask = if matches!(ask.method, "GET" | "HEAD") {
        ask
    } else {
        Ask::get(context.client.site.path("/_stcore/health"))
    };
    let limit = |response: &Response, passed| Limit {
        request: format!("{} {}", ask.method, ask.target),
        passed,
        refused: response.status,
        is_of_connections: false,
        by: context.by(response),
    };
    let mut response = context.handshake_status(&ask).await.ok()?;
    if status == TOO_MANY && response.status == TOO_MANY {
        return Some(limit(&response, None));
    }
    for pause in PAUSES {
        if !is_refusal(response.status) {
            break;
        }
        sleep(pause).await;
        response = context.handshake_status(&ask).await.ok()?;
    }
    if is_refusal(response.status) {
        return None;
    }
    let passed = Some(response.status);
    for _ in 0..REPETITIONS {
        let response = context.handshake_status(&ask).await.ok()?;
        if is_refusal(response.status) {
            return Some(limit(&response, passed));
        }
    }
    None
}

const TOO_MANY: u16 = 429;

/// About as many as a page sends at first.
const REQUESTS: usize = 30;

/// Limits often allow some hundred requests at once.
const REPETITIONS: usize = 200;

/// After so many refusals with another cause, such as an app that is down, no further one is followed.
const MAX_OTHERS: usize = 2;
