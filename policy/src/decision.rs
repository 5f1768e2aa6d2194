//! Defines what the policy returns to a host: what to do with a request, and how to edit a response.

use crate::decision_record::{DecisionRecord, HstsOutcome};
use crate::edit::{Edits, Span};
use crate::exchange::Exchange;
use crate::reason::Reason;

/// The decision about a request.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What to do with the request.
    pub action: Action,
    /// The input of the decision about the response; pass it to [`Policy::response`](crate::Policy::response).
    pub exchange: Exchange,
    /// What was decided, for logs and metrics. With `report_only` it records what would have been done, while the action
    /// is to forward the request unchanged.
    pub record: DecisionRecord,
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// Apply the edits and forward the request.
    Forward(Forward),
    /// Reply without contacting the upstream.
    Reply(Reply),
}

/// A request to forward to the upstream.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The edits to apply, in order.
    pub edits: Edits,
    /// A text that is stored with the edits.
    pub(crate) stripped_target: Span,
}

impl Forward {
    /// Returns the target without the mount, even if the full path is sent upstream; hosts route by it.
    pub fn stripped_target(&self) -> &[u8] {
        self.edits.stored(self.stripped_target)
    }
}

/// A response that the policy generates itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The `Location` of a redirect.
    pub location: Option<Vec<u8>>,
    /// Why the policy replies; gives the body and the label in logs and metrics.
    pub reason: Reason,
}

/// The decision about a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseDecision {
    /// The edits to apply, in order.
    pub edits: Edits,
    /// What was done with `Strict-Transport-Security`; `None` if the response has none before and after the edits.
    pub hsts: Option<HstsOutcome>,
    /// True if a `__Host-` cookie is left at `Path=/` although the app is published under a mount. Browsers accept no
    /// other path for such a cookie, so every app of the host receives it.
    pub host_cookie_kept: bool,
}

impl Reply {
    /// Returns the status. HTTP/1.0 does not define 421, so it gets 400.
    pub fn status(&self, is_http_1_0: impl FnOnce() -> bool) -> u16 {
        match self.reason {
            Reason::HostNotAllowed if is_http_1_0() => 400,
            reason => reason.status(),
        }
    }
}

impl From<Reason> for Reply {
    fn from(reason: Reason) -> Self {
        Self {
            location: None,
            reason,
        }
    }
}
