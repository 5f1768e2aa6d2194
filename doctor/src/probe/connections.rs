//! Sends a request while WebSockets are open, and again without them (P30).
//!
//! A front that limits the number of connections lets some pages work and not the next one. Some hold what is too much in a queue,
//! so that there is no response instead of an error.

use std::time::Duration;

use tokio::time::sleep;

use crate::client::{Ask, Failure, Response, is_refusal};
use crate::probe::context::{Context, has_status};
use crate::probe::rate::Limit;
use crate::probe::retry::PAUSES;

/// What was seen while WebSockets were open.
pub(crate) struct Beside {
    /// How many were open.
    pub(crate) open: usize,
    pub(crate) limit: Option<Limit>,
}

/// Opens WebSockets one after the other, up to [`MOST`], and sends a request as soon as one does not open or all are open.
pub(crate) async fn beside_websockets(context: &Context) -> Beside {
    let mut sockets = Vec::new();
    let handshake = context.handshake().limit(PATIENCE).rationed();
    let mut not_opened = None;
    while sockets.len() < MOST {
        match context.client.open(&handshake).await {
            Ok((response, socket)) if response.status == 101 => sockets.push(socket),
            Ok((response, _)) => not_opened = Some(Ok(response)),
            Err(failure) => not_opened = Some(Err(failure)),
        }
        if not_opened.is_some() {
            break;
        }
    }
    let open = sockets.len();
    if open == 0 {
        // That is what P08 is about.
        return Beside { open, limit: None };
    }
    let health = Ask::get(context.client.site.path("/_stcore/health"))
        .limit(PATIENCE)
        .rationed();
    let beside = context.client.send(&health).await;
    for socket in sockets {
        socket.close().await;
    }
    let limit = if is_kept_off(&beside) {
        find(context, &health, &beside, open).await
    } else if let Some(not_opened) = not_opened.filter(is_kept_off) {
        find(context, &handshake, &not_opened, open).await
    } else {
        None
    };
    Beside { open, limit }
}

/// Returns the limit, if the request passes now that no WebSocket is open.
async fn find(
    context: &Context,
    ask: &Ask,
    refused: &Result<Response, Failure>,
    open: usize,
) -> Option<Limit> {
    let pauses = std::iter::once(Duration::ZERO).chain(PAUSES);
    for pause in pauses {
        sleep(pause).await;
        let alone = context.handshake_status(ask).await;
        if let Ok(alone) = &alone
            && !is_refusal(alone.status)
            && (!ask.is_handshake || has_status(&Ok(alone.clone()), 101))
        {
            return Some(Limit::of_connections(
                context,
                ask,
                alone.status,
                refused,
                open,
            ));
        }
    }
    None
}

/// Returns true if a request is refused as if there were too many, or gets no response.
fn is_kept_off(result: &Result<Response, Failure>) -> bool {
    result
        .as_ref()
        .map_or(true, |response| is_refusal(response.status))
}

/// The number of WebSockets that are open at the same time: a browser opens six connections to a host besides, so a limit below that
/// is met by one page.
pub(crate) const MOST: usize = 8;

/// How long a request may wait in a queue of the front. Without the WebSockets it passes at once.
const PATIENCE: Duration = Duration::from_secs(10);
