//! Reads Streamlit's first message, resumes sessions, and sends large messages (P12, P14).

use std::time::Duration;

use prost::Message;
use tokio::time::{Instant, sleep};

use crate::client::{BINARY, Ended, Failure, PROTOCOL, WebSocket};
use crate::outcome::Outcome;
use crate::probe::context::Context;

/// Why there is no session.
pub(crate) enum NoSession {
    /// The WebSocket does not open.
    Socket(String),
    /// Streamlit's first message does not come.
    Message(String),
}

/// Opens a WebSocket as Streamlit's page does, and returns the id of its session. `resume`: the session to resume.
pub(crate) async fn open(
    context: &Context,
    resume: Option<&str>,
) -> Result<(String, WebSocket), NoSession> {
    let mut ask = context.handshake();
    if let Some(id) = resume {
        ask = ask.field("Sec-WebSocket-Protocol", format!("{PROTOCOL}, {id}"));
    }
    let opened = context.client.open(&ask).await;
    let (response, mut socket) =
        opened.map_err(|failure: Failure| NoSession::Socket(failure.to_string()))?;
    if response.status != 101 {
        return Err(NoSession::Socket(response.status.to_string()));
    }
    let sent = socket.send(BINARY, &RERUN).await;
    sent.map_err(|failure| NoSession::Message(failure.to_string()))?;
    match first_session(&mut socket).await {
        Ok(Some(id)) => Ok((id, socket)),
        Ok(None) => Err(NoSession::Message(
            "no message with the session's id within 30 s".to_owned(),
        )),
        Err(ended) => Err(NoSession::Message(format!(
            "the WebSocket ends first ({ended:?})"
        ))),
    }
}

async fn first_session(socket: &mut WebSocket) -> Result<Option<String>, Ended> {
    let until = Instant::now() + LIMIT;
    while let Some(message) = socket.message(until).await? {
        if let Some(id) = session_id(&message) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// P12: a session survives a break.
pub(crate) async fn resume(context: &Context, outcome: &mut Outcome) {
    let (id, socket) = match open(context, None).await {
        Ok(opened) => opened,
        Err(NoSession::Socket(reason)) => {
            return outcome.skip(format!("the WebSocket does not open ({reason}); see P08"));
        }
        Err(NoSession::Message(reason)) => {
            outcome.fail(
                format!("the WebSocket opens, but {reason}: a hop terminates it, or the app behind is not Streamlit"),
                "let the front pass WebSocket frames unchanged",
            );
            return;
        }
    };
    // A break, without the closing handshake.
    drop(socket);
    let mut last = String::new();
    // Streamlit resumes a session only after it has noticed the break.
    for pause in PAUSES {
        sleep(pause).await;
        match open(context, Some(&id)).await {
            Ok((resumed, socket)) if resumed == id => {
                socket.close().await;
                return outcome.right("a broken WebSocket resumes its session");
            }
            Ok((_, socket)) => {
                socket.close().await;
                last = "the app begins a new session".to_owned();
            }
            Err(NoSession::Socket(reason) | NoSession::Message(reason)) => last = reason,
        }
    }
    outcome.fail(
        format!("after a break the session is not resumed: {last}, so a user's state is lost at every short break"),
        "either a hop changes the protocol line (P11), which must pass in one line, or the reconnect reaches another replica (P18), which needs affinity",
    );
}

/// P14: a large message from the page to the app.
pub(crate) async fn big_message(context: &Context, outcome: &mut Outcome) {
    if !context.options.may_write {
        return outcome.skip("it sends 4 MB to the app; use --write");
    }
    let mut passed = 0;
    for bytes in [64 * 1024, 1024 * 1024, 4 * 1024 * 1024] {
        let (_, mut socket) = match open(context, None).await {
            Ok(opened) => opened,
            Err(NoSession::Socket(reason) | NoSession::Message(reason)) => {
                return outcome.skip(format!("no session opens ({reason}); see P08 and P12"));
            }
        };
        let message = BackMsg {
            rerun_script: Some(ClientState {
                query_string: format!("doctor={}", "x".repeat(bytes)),
            }),
        };
        let sent = socket.send(BINARY, &message.encode_to_vec()).await;
        let answered = first_session(&mut socket).await;
        let code = match (sent, answered) {
            (Ok(()), Ok(Some(_))) => {
                socket.close().await;
                passed = bytes;
                continue;
            }
            (_, Err(Ended::Closed(code))) => code
                .map_or("a close frame without a code".to_owned(), |code| {
                    format!("code {code}")
                }),
            (_, Err(Ended::Cut)) => "no close frame".to_owned(),
            (Err(failure), _) => failure.to_string(),
            (Ok(()), Ok(None)) => "silence".to_owned(),
        };
        outcome.fail(
            format!("a message of {passed} bytes passes to the app, and one of {bytes} bytes ends the WebSocket with {code}"),
            "a hop parses frames and limits their size: let it pass them unchanged, or raise its limit to Streamlit's server.maxMessageSize",
        );
        return;
    }
    outcome.right(
        "a message of 4 MB passes to the app; the other direction depends on what the app sends",
    );
}

/// Returns the session's id, if a message contains it.
fn session_id(message: &[u8]) -> Option<String> {
    let message = ForwardMsg::decode(message).ok()?;
    let id = message.new_session?.initialize?.session_id;
    (!id.is_empty()).then_some(id)
}

/// The part of Streamlit's `ForwardMsg` that is read.
#[derive(Clone, PartialEq, Message)]
struct ForwardMsg {
    #[prost(message, optional, tag = "4")]
    new_session: Option<NewSession>,
}

#[derive(Clone, PartialEq, Message)]
struct NewSession {
    #[prost(message, optional, tag = "1")]
    initialize: Option<Initialize>,
}

#[derive(Clone, PartialEq, Message)]
struct Initialize {
    #[prost(string, tag = "6")]
    session_id: String,
}

/// The part of Streamlit's `BackMsg` that is sent.
#[derive(Clone, PartialEq, Message)]
struct BackMsg {
    #[prost(message, optional, tag = "11")]
    rerun_script: Option<ClientState>,
}

#[derive(Clone, PartialEq, Message)]
struct ClientState {
    #[prost(string, tag = "1")]
    query_string: String,
}

/// `BackMsg { rerun_script: ClientState {} }`, which Streamlit's page sends first.
const RERUN: [u8; 2] = [0x5a, 0x00];

const LIMIT: Duration = Duration::from_secs(30);
const PAUSES: [Duration; 4] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_read_from_the_first_message() {
        let message = ForwardMsg {
            new_session: Some(NewSession {
                initialize: Some(Initialize {
                    session_id: "s-1".into(),
                }),
            }),
        };
        assert_eq!(session_id(&message.encode_to_vec()).as_deref(), Some("s-1"));
        assert_eq!(session_id(b"\x30\x00"), None);
        assert_eq!(session_id(b"\xff"), None);
    }

    #[test]
    fn the_first_message_of_the_page_is_an_empty_rerun() {
        let message = BackMsg {
            rerun_script: Some(ClientState::default()),
        };
        assert_eq!(message.encode_to_vec(), RERUN);
    }
}
