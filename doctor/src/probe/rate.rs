//! Describes a limit of the rate of requests, or of the number of connections (P30).

use crate::client::{Ask, Response, is_refusal};
use crate::probe::context::Context;
use crate::probe::cures::RATE;
use crate::probe::front::Hop;
use crate::probe::retry;

/// A limit that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The request, such as `GET /apps/my-app/`.
    request: String,
    /// The status with which it has passed; `None` if that was not seen.
    passed: Option<u16>,
    refused: u16,
    /// It is refused while a WebSocket is open.
    is_of_connections: bool,
    by: Hop,
}

impl Limit {
    /// A limit of the rate.
    pub(crate) fn new(
        context: &Context,
        ask: &Ask,
        passed: Option<u16>,
        refused: &Response,
    ) -> Self {
        Self {
            request: format!("{} {}", ask.method, ask.target),
            passed,
            refused: refused.status,
            is_of_connections: false,
            by: context.by(refused),
        }
    }

    /// Returns why a check that met it cannot be believed.
    pub(crate) fn reason(&self) -> String {
        let which = if self.is_of_connections {
            "while a WebSocket is open"
        } else {
            "that come too fast"
        };
        format!(
            "{} refuses requests {which} ({})",
            self.by.name(),
            self.refused
        )
    }

    /// Returns the finding and the hint.
    pub(crate) fn explain(&self, context: &Context) -> (String, String) {
        let (when, what) = if self.is_of_connections {
            (
                "while a WebSocket is open",
                "number of connections of a client, and each open page has one",
            )
        } else {
            ("when it is repeated", "rate or the number of requests")
        };
        let passed = self.passed.map_or_else(
            || "answered".to_owned(),
            |status| format!("answered {status} and,"),
        );
        let when = self.passed.map_or(String::new(), |_| format!(" {when},"));
        let finding = format!(
            "`{}` is {passed}{when} {} by {}: a hop limits the {what}, so a page that loads its files at the same time gets only some of them",
            self.request,
            self.refused,
            self.by.name()
        );
        (finding, RATE.hint(context.hop(self.by)))
    }
}

/// Sends a request while a WebSocket is open, and again without one.
pub(crate) async fn beside_websocket(context: &Context) -> Option<Limit> {
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
        is_of_connections: true,
        ..Limit::new(context, &ask, Some(alone.status), &refused)
    })
}
