//! Reports a front that refuses the doctor because of its User-Agent (P32).

use crate::client::UserAgent;
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::USER_AGENT;
use crate::probe::difference::Difference;

/// P32: no request of the doctor is refused because of its User-Agent.
pub(crate) async fn check(context: &Context, outcome: &mut Outcome) {
    if context.difference().is_none() {
        // A failure that is not because of the User-Agent is that of P08.
        let _ = context.open_as_browser().await;
    }
    if let Some(difference) = context.difference() {
        let (finding, hint) = explain(&difference, context);
        return if difference.is_of_doctor() {
            outcome.fail(finding, hint);
        } else {
            outcome.warn(finding, hint);
        };
    }
    outcome.right("no response depends on the User-Agent of the doctor");
}

/// Returns the finding and the hint.
fn explain(difference: &Difference, context: &Context) -> (String, String) {
    let what = if difference.ask.is_handshake {
        "the handshake"
    } else {
        &format!("`{}`", difference.ask.target)
    };
    let (own, other) = (
        context.describe(&difference.own),
        context.describe(&difference.other),
    );
    let name = difference.user_agent.text();
    let hop = difference
        .own
        .as_ref()
        .map_or(context.front, |response| context.hop(context.by(response)));
    let finding = if difference.is_of_doctor() {
        format!(
            "{what}: {own} for each User-Agent with `fluxlit-doctor` in it, and {other} for that of a browser (`{name}`): a rule of the front keeps the doctor out, so nothing but the certificate is checked"
        )
    } else {
        format!(
            "{what}: {own} for the User-Agent of the doctor (`{}`), and {other} for `{name}`, which begins like that of a browser: a rule of the front refuses clients by their User-Agent. Everything that follows is checked with the second one",
            UserAgent::Own.text()
        )
    };
    (finding, USER_AGENT.hint(hop))
}
