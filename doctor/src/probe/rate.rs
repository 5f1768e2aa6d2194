//! Describes a limit of the rate of requests, or of the number of connections (P30).

use crate::client::{Ask, Failure, Response};
use crate::probe::context::Context;
use crate::probe::cures::RATE;
use crate::probe::front::Hop;

/// A limit that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The request, such as `GET /apps/my-app/`.
    request: String,
    /// The status with which it has passed; `None` if that was not seen.
    passed: Option<u16>,
    /// What it gets otherwise, such as `503 by nginx`.
    refused: String,
    /// How many WebSockets are open when it is refused; 0 for a limit of the rate.
    open: usize,
    /// The hop to which the cure applies.
    hop: Hop,
}

impl Limit {
    /// A limit of the rate.
    pub(crate) fn new(
        context: &Context,
        ask: &Ask,
        passed: Option<u16>,
        refused: &Response,
    ) -> Self {
        let by = context.by(refused);
        Self {
            request: format!("{} {}", ask.method, ask.target),
            passed,
            refused: format!("{} by {}", refused.status, by.name()),
            open: 0,
            hop: context.hop(by),
        }
    }

    /// A limit of the number of connections.
    pub(crate) fn of_connections(
        context: &Context,
        ask: &Ask,
        passed: u16,
        refused: &Result<Response, Failure>,
        open: usize,
    ) -> Self {
        match refused {
            Ok(refused) => Self {
                open,
                ..Self::new(context, ask, Some(passed), refused)
            },
            Err(failure) => Self {
                request: format!("{} {}", ask.method, ask.target),
                passed: Some(passed),
                refused: format!("not at all ({failure})"),
                open,
                hop: context.front,
            },
        }
    }

    /// Returns why a check that met it cannot be believed.
    pub(crate) fn reason(&self) -> String {
        let which = if self.open > 0 {
            "while WebSockets are open"
        } else {
            "that come too fast"
        };
        format!(
            "the front refuses requests {which} (answered {})",
            self.refused
        )
    }

    /// Returns the finding and the hint.
    pub(crate) fn explain(&self) -> (String, String) {
        let (when, what) = match self.open {
            0 => (
                "when it is repeated".to_owned(),
                "rate or the number of requests",
            ),
            open => (
                format!("while {} open", websockets(open)),
                "number of connections, of one client or of all together, and each open page has one",
            ),
        };
        let passed = self.passed.map_or_else(
            || "answered".to_owned(),
            |status| format!("answered {status} and, {when},"),
        );
        let finding = format!(
            "`{}` is {passed} {}: a hop limits the {what}, so a page that loads its files at the same time gets only some of them",
            self.request, self.refused
        );
        (finding, RATE.hint(self.hop))
    }
}

/// Returns the subject of a sentence, with its verb.
pub(crate) fn websockets(count: usize) -> String {
    if count == 1 {
        "a WebSocket is".to_owned()
    } else {
        format!("{count} WebSockets are")
    }
}
