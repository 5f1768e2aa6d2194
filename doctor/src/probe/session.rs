//! Reads Streamlit's first message, resumes sessions, and sends large messages (P12, P14).

use std::time::Duration;

use prost::Message;
use tokio::time::{Instant, sleep};

use crate::client::{BINARY, Ended, Failure, PROTOCOL, WebSocket};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::{AFFINITY, PROTOCOL_LINE};

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
    let mut socket = connect(context, resume).await?;
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

/// Opens a WebSocket. Streamlit sends nothing before the first message of its page.
async fn connect(context: &Context, resume: Option<&str>) -> Result<WebSocket, NoSession> {
    let mut ask = context.handshake();
    if let Some(id) = resume {
        ask = ask.field("Sec-WebSocket-Protocol", format!("{PROTOCOL}, {id}"));
    }
    let opened = context.client.open(&ask).await;
    let (response, socket) =
        opened.map_err(|failure: Failure| NoSession::Socket(failure.to_string()))?;
    if response.status != 101 {
        return Err(NoSession::Socket(response.status.to_string()));
    }
    Ok(socket)
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
        format!(
            "if P18 finds several replicas: {}. Otherwise {}",
            AFFINITY.hint(context.front),
            PROTOCOL_LINE.hint(context.front)
        ),
    );
}

/// P14: large messages, from the page to the app and back.
pub(crate) async fn big_message(context: &Context, outcome: &mut Outcome) {
    if !context.options.may_write {
        return outcome.skip("it sends messages of up to 4 MB to the app; use --write");
    }
    for direction in [Direction::ToApp, Direction::ToPage] {
        let mut passed = 0;
        for bytes in MESSAGES {
            match send_large(context, direction, bytes).await {
                Large::Passed => passed = bytes,
                Large::Skipped(reason) => {
                    outcome.skip(reason);
                    break;
                }
                Large::Ended(how) => {
                    outcome.fail(
                        format!("a message of {passed} bytes passes {}, and one of {bytes} bytes ends the WebSocket with {how}", direction.label()),
                        "a hop parses frames and limits their size: let it pass them unchanged, or raise its limit to Streamlit's server.maxMessageSize",
                    );
                    break;
                }
            }
        }
        if MESSAGES.last() == Some(&passed) {
            outcome.right(format!(
                "a message of {passed} bytes passes {}",
                direction.label()
            ));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToApp,
    ToPage,
}

impl Direction {
    fn label(self) -> &'static str {
        match self {
            Self::ToApp => "to the app",
            Self::ToPage => "from the app",
        }
    }

    /// Returns a query that is as long as the message is to be, or that asks the page for a message of this length.
    fn query(self, bytes: usize) -> String {
        match self {
            Self::ToApp => format!("doctor={}", "x".repeat(bytes)),
            Self::ToPage => format!("doctor_echo={bytes}"),
        }
    }
}

/// What became of a large message.
enum Large {
    Passed,
    Skipped(String),
    /// The WebSocket has ended first, in this way.
    Ended(String),
}

async fn send_large(context: &Context, direction: Direction, bytes: usize) -> Large {
    let mut socket = match connect(context, None).await {
        Ok(socket) => socket,
        Err(NoSession::Socket(reason) | NoSession::Message(reason)) => {
            return Large::Skipped(format!("no session opens ({reason}); see P08 and P12"));
        }
    };
    let message = BackMsg {
        rerun_script: Some(ClientState {
            query_string: direction.query(bytes),
        }),
    };
    if let Err(failure) = socket.send(BINARY, &message.encode_to_vec()).await {
        return Large::Ended(failure.to_string());
    }
    let answered = match direction {
        Direction::ToApp => first_session(&mut socket).await.map(|id| id.map(|_| bytes)),
        Direction::ToPage => longest_message(&mut socket).await,
    };
    match answered {
        Ok(Some(longest)) => {
            socket.close().await;
            if longest >= bytes {
                Large::Passed
            } else {
                Large::Skipped(
                    "the app's page does not answer `doctor_echo` in its query with a long text, so only messages to the app are measured".to_owned(),
                )
            }
        }
        Ok(None) => Large::Ended("silence".to_owned()),
        Err(Ended::Closed(Some(code))) => Large::Ended(format!("code {code}")),
        Err(Ended::Closed(None)) => Large::Ended("a close frame without a code".to_owned()),
        Err(Ended::Cut) => Large::Ended("no close frame".to_owned()),
    }
}

/// Returns the length of the longest message until the script has ended; `None` if it does not end.
async fn longest_message(socket: &mut WebSocket) -> Result<Option<usize>, Ended> {
    let until = Instant::now() + LIMIT;
    let mut longest = 0;
    while let Some(message) = socket.message(until).await? {
        longest = longest.max(message.len());
        if ForwardMsg::decode(message.as_slice()).is_ok_and(|it| it.script_finished.is_some()) {
            return Ok(Some(longest));
        }
    }
    Ok(None)
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
    /// How the script has ended.
    #[prost(int32, optional, tag = "6")]
    script_finished: Option<i32>,
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

/// The lengths of messages. Limits of proxies are often 64 kB or 1 MB.
const MESSAGES: [usize; 3] = [64 * 1024, 1024 * 1024, 4 * 1024 * 1024];

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
            script_finished: None,
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
