//! Describes a front that does not reach the app, always or sometimes (P31).

use crate::client::{Ask, Response};
use crate::probe::context::{Context, NOWHERE};
use crate::probe::cures::UPSTREAMS;
use crate::probe::obstacle;

/// How the front does not reach the app.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// Everything is refused since the first request, or every third request or more.
    pub(crate) is_for_all: bool,
    /// It was seen once, and not again.
    pub(crate) is_past: bool,
    /// The same in a few words.
    pub(crate) short: String,
    pub(crate) finding: String,
    pub(crate) hint: String,
}

impl Fault {
    /// Returns the fault if the health check and the page are refused from the start.
    pub(crate) async fn at_first(context: &Context) -> Option<Self> {
        let page = context.page.status;
        if !(502..=504).contains(&page) {
            return None;
        }
        let target = context.client.site.path("/_stcore/health");
        let fault = Self::always(
            context,
            &target,
            &context.health,
            "like the page, also when they are repeated",
        )?;
        let above = above(context).await;
        Some(Self {
            is_for_all: true,
            finding: fault.finding + &above,
            ..fault
        })
    }

    /// The health check was answered at first, and is refused now.
    pub(crate) fn gone(context: &Context, health: &Ask, refused: &Response) -> Option<Self> {
        Self::always(
            context,
            &health.target,
            refused,
            "but was accepted at first",
        )
    }

    fn always(context: &Context, target: &str, refused: &Response, when: &str) -> Option<Self> {
        if !(502..=504).contains(&refused.status) || obstacle::is_guard(refused) {
            return None;
        }
        let answer = context.answer(refused);
        let (reason, hint) = obstacle::explain(context, refused)?;
        Some(Self {
            is_for_all: false,
            is_past: false,
            short: format!("{reason} ({answer})"),
            finding: format!("`{target}` is answered {answer}, {when}: {reason}"),
            hint,
        })
    }

    /// The same request is accepted and refused. `count`: how often it is refused, of how many times.
    pub(crate) fn sometimes(
        context: &Context,
        ask: &Ask,
        passed: u16,
        refused: &Response,
        (refusals, count): (usize, usize),
    ) -> Self {
        let answer = context.answer(refused);
        Self {
            is_for_all: refusals.saturating_mul(3) >= count,
            is_past: false,
            short: format!("one of several upstreams fails ({answer})"),
            finding: format!(
                "`{} {}`, repeated unchanged, is answered {passed}, and {refusals} of {count} times {answer}: one of several upstreams fails, and the front still sends it requests",
                ask.method, ask.target
            ),
            hint: UPSTREAMS.hint(context.hop(context.by(refused))),
        }
    }

    /// A request was refused, and is accepted when it is repeated.
    pub(crate) fn once(context: &Context, ask: &Ask, refused: u16, passed: u16) -> Self {
        Self {
            is_for_all: false,
            is_past: true,
            short: format!("a request was answered {refused}, and {passed} when it was repeated"),
            finding: format!(
                "`{} {}` was answered {refused}, and {passed} when it was repeated unchanged: one of several upstreams fails, or the front took the app out for a moment, as it does after a failed health check or while the app restarts",
                ask.method, ask.target
            ),
            hint: UPSTREAMS.hint(context.front),
        }
    }

    /// Returns why a check that met it cannot be believed.
    pub(crate) fn reason(&self) -> String {
        self.short.clone()
    }
}

/// Says that a name next to the mount is refused in the same way: a rule for a shorter path may apply first.
async fn above(context: &Context) -> String {
    let mount = &context.client.site.mount;
    let Some((parent, _)) = mount.rsplit_once('/') else {
        return String::new();
    };
    let target = format!("{parent}{NOWHERE}");
    match context.client.get(&target).await {
        Ok(other) if context.answer(&other) == context.answer(&context.health) => format!(
            "; so is `{target}`, outside of the mount: a rule for `{parent}/` may apply first"
        ),
        _ => String::new(),
    }
}
