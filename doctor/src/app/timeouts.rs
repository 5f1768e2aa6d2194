//! Checks that the gateway waits longer than Streamlit's pings (D14).

use std::time::Duration;

use crate::app::instance::Instance;
use crate::app::server::Server;
use crate::app::subject::{Depth, Subject};
use crate::client::PROTOCOL;
use crate::outcome::Outcome;
use crate::wire::{Connection, handshake};

/// D14: no idle limit is shorter than two pings; with `--slow`, one ping is observed through a second gateway.
pub(crate) async fn pings(server: &Server, subject: &Subject, depth: Depth, outcome: &mut Outcome) {
    let idle = subject.limits.websocket_idle;
    if !idle.is_zero() && idle < TWO_PINGS {
        return outcome.fail(
            format!("the gateway ends a WebSocket after {idle:?} without a byte, but Streamlit's ping comes every 30 seconds"),
            "set FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S to at least 90, or to 0 for no limit",
        );
    }
    if !depth.slow {
        return outcome.skip("observing a ping takes half a minute; use --slow");
    }
    match observe(server, subject).await {
        Ok(true) => outcome.right("a ping of Streamlit passes the gateway"),
        Ok(false) => outcome.fail(
            "a WebSocket through the gateway ended before Streamlit's first ping",
            "raise the limits FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S and FLUXLIT_GATEWAY_WS_OPEN_TIMEOUT_S",
        ),
        Err(error) => outcome.skip(format!("no ping was observed: {error}")),
    }
}

async fn observe(server: &Server, subject: &Subject) -> std::io::Result<bool> {
    let gateway = Instance::in_front_of(subject, server.address, &[]).await?;
    let target = format!("{}/_stcore/stream", subject.mount);
    let headers = [("Sec-WebSocket-Protocol", PROTOCOL)];
    let handshake = handshake(&target, &subject.public_authority(), &headers);
    let mut socket = Connection::open_websocket(gateway.address, &handshake).await?;
    while let Some(frame) = socket.frame(PING_LIMIT).await? {
        if frame.opcode == PING {
            return Ok(true);
        }
        if frame.close_code().is_some() {
            break;
        }
    }
    Ok(false)
}

/// Streamlit pings every 30 seconds and gives up after 30 more.
const TWO_PINGS: Duration = Duration::from_secs(60);
const PING_LIMIT: Duration = Duration::from_secs(120);
const PING: u8 = 9;
