//! Self-test: a gateway that is told to stop ends its WebSockets and its children (D17).

use std::io;

use crate::app::echo::Echo;
use crate::app::instance::{Instance, descendants};
use crate::app::subject::{Depth, Subject};
use crate::outcome::Outcome;
use crate::wire::{Connection, LIMIT, handshake};

/// D17, with `--slow`: SIGTERM while a WebSocket is open.
pub(crate) async fn stop(
    subject: &Subject,
    app: Option<Instance>,
    depth: Depth,
    outcome: &mut Outcome,
) {
    if !depth.slow {
        return outcome.skip("stopping a gateway can take its grace period; use --slow");
    }
    match close_code(subject).await {
        Ok(Some(1012)) => outcome.right("a WebSocket ends with code 1012 when the gateway stops"),
        Ok(code) => outcome.fail(
            format!(
                "a WebSocket ended {} instead of with 1012 when the gateway was stopped",
                code.map_or("without a close frame".to_owned(), |code| format!(
                    "with {code}"
                ))
            ),
            FAULT,
        ),
        Err(error) => outcome.skip(format!("the second gateway cannot be asked: {error}")),
    }
    let Some(app) = app else {
        return;
    };
    match orphans(app).await {
        Ok(orphans) if orphans.is_empty() => {
            outcome.right("no child of the gateway is left after it has stopped");
        }
        Ok(orphans) => outcome.fail(
            format!("processes are left after the gateway has stopped: {orphans:?}"),
            FAULT,
        ),
        Err(error) => outcome.skip(format!("the gateway of the app cannot be stopped: {error}")),
    }
}

async fn close_code(subject: &Subject) -> io::Result<Option<u16>> {
    let echo = Echo::start("").await?;
    let mut gateway = Instance::in_front_of(subject, echo.address, &[]).await?;
    let target = format!("{}/_stcore/stream", subject.mount);
    let handshake = handshake(&target, &subject.public_authority(), &[]);
    let mut socket = Connection::open_websocket(gateway.address, &handshake).await?;
    gateway.terminate().await?;
    let mut code = None;
    while let Some(frame) = socket.frame(LIMIT).await? {
        code = frame.close_code();
        if code.is_some() {
            break;
        }
    }
    drop(socket);
    gateway.ended().await?;
    Ok(code)
}

/// Stops the gateway of the app; returns its children that still run.
async fn orphans(mut app: Instance) -> io::Result<Vec<u32>> {
    let id = app.id().ok_or_else(|| io::Error::other("it has ended"))?;
    let children: Vec<(u32, String)> = descendants(id)
        .into_iter()
        .filter_map(|child| Some((child, started(child)?)))
        .collect();
    app.terminate().await?;
    app.ended().await?;
    Ok(children
        .into_iter()
        .filter(|(child, when)| started(*child).as_ref() == Some(when))
        .map(|(child, _)| child)
        .collect())
}

/// Returns when a process was started, which tells it from a later one with its number; `None` if it has ended.
fn started(process: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program is in parentheses and may contain spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let is_ended = matches!(fields.next(), Some("Z" | "X"));
    (!is_ended).then(|| fields.nth(18).map(str::to_owned))?
}

const FAULT: &str =
    "this is a fault of the gateway: report it with the output of `fluxlit-gateway config`";
