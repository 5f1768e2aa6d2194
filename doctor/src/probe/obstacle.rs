//! Explains error responses with which a hop keeps a request from the app: a login, an access rule, an upstream that does not
//! answer.

use crate::client::Response;
use crate::probe::context::Context;
use crate::probe::cures::{ACCESS, ONE_HOST, UPSTREAM};

/// Returns the reason and the hint; `None` for other responses.
pub(crate) fn explain(context: &Context, response: &Response) -> Option<(&'static str, String)> {
    let hop = context.hop(context.by(response));
    let is_of_front = context.is_of_front(response);
    match response.status {
        400 if response.text().contains("exactly one Host") => Some((
            "a hop in front sends Host twice",
            ONE_HOST.hint(hop),
        )),
        401 => Some((
            "a login stands before the app",
            format!("send the session of a user with --cookie-file, or the field Authorization with --header-file. If nobody should need a login: {}", ACCESS.hint(hop)),
        )),
        403 if is_of_front => Some(("an access rule of the front refuses it", ACCESS.hint(hop))),
        403 if !context.is_of_app(response) => Some((
            "an access rule of a hop in front, or of the app, refuses it",
            format!("{}. If it is the app: list the public host in Streamlit's server.allowedHosts", ACCESS.hint(hop)),
        )),
        503 if is_of_front => Some((
            "the front does not reach the app or holds it for unhealthy, or a rule of the front answers itself",
            UPSTREAM.hint(hop),
        )),
        502 | 504 if is_of_front => Some(("the front does not reach the app", UPSTREAM.hint(hop))),
        502..=504 if context.is_of_app(response) => Some((
            "Streamlit does not answer it",
            "look at the log of the gateway, and at whether Streamlit runs at FLUXLIT_STREAMLIT_UPSTREAM".to_owned(),
        )),
        _ => None,
    }
}

/// Returns true for what the shipped Envoy configuration answers if the filter has not processed a request.
pub(crate) fn is_guard(response: &Response) -> bool {
    response
        .text()
        .contains("The FluxLit filter is not running")
}
