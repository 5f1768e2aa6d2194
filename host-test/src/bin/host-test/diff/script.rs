//! What does an upstream do with each request that it gets?

use std::time::Duration;

use host_test::case_file::{Answer, CallAnswer, CallFailure};

use super::content::{Content, fields, latin1};
use super::wire::Field;

/// What is done with one request.
#[derive(Debug, Clone)]
pub(super) enum Reaction {
    /// An answer, after a time.
    Answer(Duration, Response),
    /// The connection is closed.
    Close,
    /// Nothing listens any more, from this request on.
    Refuse,
    /// Nothing comes back.
    Silence,
}

/// A response as it goes over the wire.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<Field>,
    pub(super) content: Content,
}

impl Reaction {
    /// What the upstream of a case does.
    pub(super) fn of_answer(answer: &Answer) -> Self {
        let response = Response {
            status: answer.status,
            headers: fields(&answer.headers),
            content: Content::of_answer(answer),
        };
        Self::Answer(Duration::from_millis(answer.delay_ms), response)
    }

    /// What a service that a filter calls does; `None` if no service can.
    pub(super) fn of_call(answer: &CallAnswer) -> Option<Self> {
        match answer.fails {
            Some(CallFailure::NoHeaders) => None,
            Some(CallFailure::Refused) => Some(Self::Refuse),
            Some(CallFailure::Reset) => Some(Self::Close),
            Some(CallFailure::TimeOut) => Some(Self::Silence),
            None => Some(Self::Answer(
                Duration::from_millis(answer.delay_ms),
                match &answer.grpc {
                    Some(messages) => of_grpc(answer, messages),
                    None => Response {
                        status: answer.status.unwrap_or(200),
                        headers: fields(&answer.headers),
                        content: Content::new(&answer.body, &[], &answer.trailers),
                    },
                },
            )),
        }
    }

    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refuse)
    }
}

/// A gRPC response over HTTP/2: messages in frames, the status in trailers.
fn of_grpc(answer: &CallAnswer, messages: &[String]) -> Response {
    let mut headers = vec![(b"content-type".to_vec(), b"application/grpc".to_vec())];
    headers.extend(fields(&answer.headers));
    let mut trailers = fields(&answer.trailers);
    let status = answer.grpc_status.unwrap_or(0).to_string();
    trailers.push((b"grpc-status".to_vec(), status.into_bytes()));
    if !answer.grpc_message.is_empty() {
        trailers.push((b"grpc-message".to_vec(), latin1(&answer.grpc_message)));
    }
    Response {
        status: 200,
        headers,
        content: Content {
            frames: messages
                .iter()
                .map(|message| grpc_frame(&latin1(message)))
                .collect(),
            has_frames: true,
            trailers,
        },
    }
}

/// A message with its prefix: not compressed, and its length. From the gRPC protocol over HTTP/2.
fn grpc_frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// The messages of a gRPC body, one after the other; what is cut off is left out.
pub(super) fn grpc_messages(mut body: &[u8]) -> Vec<u8> {
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
