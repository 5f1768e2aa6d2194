//! Scripts an upstream: for each request it responds, stays silent, closes the connection, or refuses connections.

use std::time::Duration;

use fluxlit_cases::{Answer, CallAnswer, CallFailure, latin1};

use crate::http1::{Content, Field};

/// The behavior of an upstream for one request.
#[derive(Debug, Clone)]
pub enum ScriptedResponse {
    /// Closes the connection.
    Close,
    /// Refuses connections, from this request on.
    Refuse,
    /// Responds after a delay.
    Respond(Duration, ResponseMessage),
    /// Never responds.
    Silence,
}

/// A response to send.
#[derive(Debug, Clone)]
pub struct ResponseMessage {
    /// The status code.
    pub status: u16,
    /// The field lines.
    pub headers: Vec<Field>,
    /// The body and the trailers.
    pub content: Content,
}

impl ScriptedResponse {
    /// Returns the behavior of a case's upstream.
    pub fn of_answer(answer: &Answer) -> Self {
        let response = ResponseMessage {
            status: answer.status,
            headers: answer.headers.clone(),
            content: Content::of_answer(answer),
        };
        Self::Respond(Duration::from_millis(answer.delay_ms), response)
    }

    /// Returns the behavior of a service that a filter calls; `None` if no real service can cause it.
    pub fn of_call(answer: &CallAnswer) -> Option<Self> {
        match answer.fails {
            Some(CallFailure::NoHeaders) => None,
            Some(CallFailure::Refused) => Some(Self::Refuse),
            Some(CallFailure::Reset) => Some(Self::Close),
            Some(CallFailure::TimeOut) => Some(Self::Silence),
            None => Some(Self::Respond(
                Duration::from_millis(answer.delay_ms),
                match &answer.grpc {
                    Some(messages) => of_grpc(answer, messages),
                    None => ResponseMessage {
                        status: answer.status.unwrap_or(200),
                        headers: answer.headers.clone(),
                        content: Content::new(&answer.body, &[], &answer.trailers),
                    },
                },
            )),
        }
    }

    /// Returns true if connections are refused.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refuse)
    }
}

/// Builds a gRPC response over HTTP/2: messages in frames, the status in trailers.
fn of_grpc(answer: &CallAnswer, messages: &[String]) -> ResponseMessage {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut headers = vec![field("content-type", "application/grpc")];
    headers.extend(answer.headers.iter().cloned());
    let mut trailers = answer.trailers.clone();
    let status = answer.grpc_status.unwrap_or(0).to_string();
    trailers.push(field("grpc-status", &status));
    if !answer.grpc_message.is_empty() {
        trailers.push(field("grpc-message", &answer.grpc_message));
    }
    ResponseMessage {
        status: 200,
        headers,
        content: Content {
            frames: messages
                .iter()
                .map(|message| grpc_frame(&latin1::bytes(message)))
                .collect(),
            has_frames: true,
            trailers,
        },
    }
}

/// Puts the prefix of the gRPC protocol over HTTP/2 before a message: not compressed, and its length.
fn grpc_frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// Returns the messages of a gRPC body, one after the other, without one that is cut off.
pub fn grpc_messages(mut body: &[u8]) -> Vec<u8> {
    let mut messages = Vec::new();
    while let Some((prefix, rest)) = body.split_first_chunk::<5>() {
        let [_, length @ ..] = *prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let Some((message, rest)) = rest.split_at_checked(length) else {
            break;
        };
        messages.extend(message);
        body = rest;
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_messages_are_read_back() {
        let body = [
            grpc_frame(b"ab"),
            grpc_frame(b""),
            grpc_frame(b"c"),
            vec![0, 0, 0],
        ]
        .concat();
        assert_eq!(grpc_messages(&body), b"abc");
    }
}
