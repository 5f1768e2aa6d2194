//! Finds out why a hop refuses what it accepts otherwise: a limit (P30), or an upstream that fails (P31). A front that answers every
//! path with the same page (P05) is known from the start.
//!
//! Each check that meets such a hop would blame what it asks for: the length of a header, the method, a version of the app. So
//! before any of that, the same request is repeated unchanged. A limit accepts it after a pause, then refuses it again if it
//! comes too fast, or while WebSockets are open. If an upstream fails, the pauses do not matter: the request is refused
//! each time, or as often as it reaches that upstream. If only this one request is refused, the check is right.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{Ask, Response, is_refusal};
use crate::probe::connections::beside_websockets;
use crate::probe::context::Context;
use crate::probe::rate::Limit;
use crate::probe::retry::PAUSES;
use crate::probe::upstream::Fault;

/// What is known about refusals so far.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) cause: Option<Cause>,
    /// The number of refusals whose cause was looked for.
    seen: usize,
    /// How often none was found, after pauses.
    others: usize,
}

/// Why requests are refused, whatever they ask for.
#[derive(Debug, Clone)]
pub(crate) enum Cause {
    Limit(Limit),
    SamePage,
    Upstream(Fault),
}

impl Cause {
    /// Returns the check that reports it.
    pub(crate) fn check(&self) -> &'static str {
        match self {
            Self::Limit(_) => RATE,
            Self::SamePage => SHAPES,
            Self::Upstream(_) => UPSTREAM,
        }
    }

    /// Returns why a check that met it cannot be believed.
    pub(crate) fn reason(&self) -> String {
        let reason = match self {
            Self::Limit(limit) => limit.reason(),
            Self::SamePage => "every path is answered with the same page".to_owned(),
            Self::Upstream(fault) => fault.reason(),
        };
        format!("{reason}; see {}", self.check())
    }
}

impl Watch {
    /// Begins with what the first requests have shown.
    pub(crate) async fn new(context: &Context) -> Self {
        Self {
            cause: if context.is_same_everywhere {
                Some(Cause::SamePage)
            } else {
                Fault::at_first(context).await.map(Cause::Upstream)
            },
            // An app that starts late is no fault.
            seen: context.client.refusals().count,
            others: 0,
        }
    }

    /// Returns why no check that needs the app can run: the front has never reached it, or reaches it so seldom that nearly each
    /// check would meet that. `None` for the check that reports it.
    pub(crate) fn reason_for_all(&self, check: &str) -> Option<String> {
        let cause = self.cause.as_ref()?;
        let is_for_all = match cause {
            Cause::Limit(_) => false,
            Cause::SamePage => true,
            Cause::Upstream(fault) => fault.is_for_all,
        };
        (is_for_all && cause.check() != check).then(|| cause.reason())
    }

    /// Returns why a check that has just met refusals cannot be believed; `None` if it can.
    pub(crate) async fn reason(&mut self, context: &Context) -> Option<String> {
        let has_met = context.client.refusals().count > self.seen;
        let cause = self.find(context).await.filter(|_| has_met);
        cause.map(Cause::reason)
    }

    /// Looks for the cause of the last refusal, if there are new ones.
    pub(crate) async fn find(&mut self, context: &Context) -> Option<&Cause> {
        let refusals = context.client.refusals();
        if self.cause.is_none()
            && refusals.count > self.seen
            && self.others < MAX_OTHERS
            && let Some((ask, status)) = refusals.last
        {
            self.cause = cause(context, ask, status).await;
            if self.cause.is_none() && is_of_limits(status) {
                self.others = self.others.saturating_add(1);
            }
        }
        self.seen = context.client.refusals().count;
        self.cause.as_ref()
    }
}

/// Finds out why a request was refused with this status.
async fn cause(context: &Context, ask: Ask, status: u16) -> Option<Cause> {
    let health = Ask::get(context.client.site.path("/_stcore/health"));
    let of_health = Series::send(context, &health).await?;
    if let Some(cause) = of_mixed(context, &health, &of_health).await {
        return Some(cause);
    }
    let at_once = Series::send(context, &ask).await?;
    if let Some(refused) = at_once.refused.as_ref()
        && refused.status == TOO_MANY
    {
        return Some(Cause::Limit(Limit::new(context, &ask, None, refused)));
    }
    if let Some(cause) = of_mixed(context, &ask, &at_once).await {
        return Some(cause);
    }
    // Nothing is written so often.
    let often = if matches!(ask.method, "GET" | "HEAD") {
        ask.clone()
    } else {
        health.clone()
    };
    let passed = match at_once.passed {
        Some(passed) => passed,
        None => match after_pauses(context, &often, of_health, status).await {
            Later::Passed(passed) => passed,
            Later::Down(refused) => {
                return Fault::gone(context, &health, &refused).map(Cause::Upstream);
            }
            Later::OnlyThis => return None,
        },
    };
    if is_of_limits(status) {
        for _ in 0..REPETITIONS {
            let response = context.handshake_status(&often).await.ok()?;
            if is_refusal(response.status) {
                let again = Series::send(context, &often).await?;
                let limit = || Cause::Limit(Limit::new(context, &often, Some(passed), &response));
                let cause = of_mixed(context, &often, &again).await;
                return Some(cause.unwrap_or_else(limit));
            }
        }
        if let Some(limit) = beside_websockets(context).await.limit {
            return Some(Cause::Limit(limit));
        }
    }
    Some(Cause::Upstream(Fault::once(context, &ask, status, passed)))
}

/// What becomes of a request that was refused several times.
enum Later {
    /// The status.
    Passed(u16),
    /// The health check is refused as well.
    Down(Response),
    OnlyThis,
}

/// Repeats a request that was refused several times, after pauses. `health`: how the health check fared, which was either accepted
/// or refused each time.
async fn after_pauses(context: &Context, ask: &Ask, health: Series, status: u16) -> Later {
    if health.passed.is_some() && !is_of_limits(status) {
        return Later::OnlyThis;
    }
    for pause in PAUSES {
        sleep(pause).await;
        match context.handshake_status(ask).await {
            Ok(response) if is_refusal(response.status) => {}
            Ok(response) => return Later::Passed(response.status),
            Err(_) => return Later::OnlyThis,
        }
    }
    match health.refused {
        Some(refused) => Later::Down(refused),
        None => Later::OnlyThis,
    }
}

/// Tells a limit from an upstream of several that fails; `None` if the series was not both accepted and refused.
async fn of_mixed(context: &Context, ask: &Ask, series: &Series) -> Option<Cause> {
    let (passed, refused) = (series.passed?, series.refused.as_ref()?);
    let limit = || Cause::Limit(Limit::new(context, ask, Some(passed), refused));
    if is_of_limits(refused.status) {
        // A limit that lets two of these pass lets all of the slow ones pass.
        if series.passes() < 2 || is_accepted_slowly(context, ask).await? {
            return Some(limit());
        }
    }
    let count = (series.refusals, series.count);
    let fault = Fault::sometimes(context, ask, passed, refused, count);
    let is_of_health = ask.target == context.client.site.path("/_stcore/health");
    // Another path may have an upstream of its own.
    Some(Cause::Upstream(Fault {
        is_for_all: fault.is_for_all && is_of_health,
        ..fault
    }))
}

/// The responses to equal requests.
#[derive(Debug, Default)]
struct Series {
    /// The status of one that was accepted.
    passed: Option<u16>,
    /// One that was refused.
    refused: Option<Response>,
    refusals: usize,
    count: usize,
}

impl Series {
    /// Sends a request [`AT_ONCE`] times; `None` if one is not answered. Fewer are enough if some were refused after a long time, as
    /// by a front that tries to connect several times.
    async fn send(context: &Context, ask: &Ask) -> Option<Self> {
        let mut series = Self::default();
        let start = Instant::now();
        for _ in 0..AT_ONCE {
            if series.refusals.min(series.passes()) >= 2 && start.elapsed() > ENOUGH {
                break;
            }
            series.count = series.count.saturating_add(1);
            let response = context.handshake_status(ask).await.ok()?;
            if is_refusal(response.status) {
                series.refusals = series.refusals.saturating_add(1);
                series.refused = Some(response);
            } else {
                series.passed = Some(response.status);
            }
        }
        Some(series)
    }

    /// How often it was accepted.
    fn passes(&self) -> usize {
        self.count.saturating_sub(self.refusals)
    }
}

/// Repeats a request slowly until it is refused, and returns true if it is not; `None` if one is not answered.
async fn is_accepted_slowly(context: &Context, ask: &Ask) -> Option<bool> {
    for _ in 0..SLOW {
        sleep(SLOW_PAUSE).await;
        let response = context.handshake_status(ask).await.ok()?;
        if is_refusal(response.status) {
            return Some(false);
        }
    }
    Some(true)
}

/// Returns true for the statuses with which servers limit requests. 503 has other causes as well.
fn is_of_limits(status: u16) -> bool {
    matches!(status, TOO_MANY | 503)
}

const TOO_MANY: u16 = 429;

/// With two upstreams of which one fails, it is less likely than one in a hundred that so many requests do not reach both.
const AT_ONCE: usize = 10;

/// A series with slow refusals ends after this time.
const ENOUGH: Duration = Duration::from_secs(3);

const SLOW: usize = 8;
const SLOW_PAUSE: Duration = Duration::from_secs(1);

/// Limits often allow some hundred requests at once.
const REPETITIONS: usize = 200;

/// After so many refusals without a common cause, such as a missing filter, no further one is followed.
const MAX_OTHERS: usize = 2;

const SHAPES: &str = "P05";
const RATE: &str = "P30";
const UPSTREAM: &str = "P31";
