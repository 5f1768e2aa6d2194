//! Why is there no answer, and what is the client told?
//!
//! Whose fault it is, and nothing of the inside.

use std::io;

use crate::http::body::{BodyError, PumpError};
use crate::observe::Ending;
use crate::observe::reject_reason::RejectReason;
use crate::proxy::decide::too_large;
use crate::proxy::local_reply::Reply;

/// Why a request was not answered by the upstream.
pub(super) struct Failure {
    pub(super) ending: Ending,
    /// What the client is told, if it is still there and has been told nothing yet.
    pub(super) reply: Option<Reply>,
}

/// Why there is no answer, or no whole one.
pub(super) enum NoAnswer {
    /// The upstream's answer is none that can be passed on.
    Bad(String),
    /// The answer has begun, and does not go on.
    Body,
    BodyTimeout,
    /// The client does not take it.
    Client(Ending),
    /// The connection ended before the answer.
    Ended,
    /// The upstream's answer to a WebSocket handshake, which has this status, opens none.
    NotSwitched(u16),
    Timeout,
}

impl Failure {
    pub(super) fn client_left() -> Self {
        Self {
            ending: Ending::ClientLeft,
            reply: None,
        }
    }

    /// Why the request's body did not get through.
    pub(super) fn upload(error: &PumpError, most: u64) -> Self {
        let (ending, status, text) = match error {
            PumpError::TooLarge => (
                Ending::Refused(RejectReason::BodyTooLarge),
                413,
                too_large(most),
            ),
            PumpError::Source(BodyError::TrailersTooLarge) => (
                Ending::Refused(RejectReason::HeadTooLarge),
                431,
                "The trailers of the request are too large.".to_owned(),
            ),
            PumpError::Source(BodyError::Chunk(_) | BodyError::Trailers) => (
                Ending::Refused(RejectReason::BadBody),
                400,
                "The body of the request is malformed.".to_owned(),
            ),
            PumpError::SourceIdle => (
                Ending::ClientTimeout,
                408,
                "The body of the request did not come in time.".to_owned(),
            ),
            PumpError::Sink(_) | PumpError::SinkIdle | PumpError::Source(_) => {
                return Self::client_left();
            }
        };
        Self {
            ending,
            reply: Some(Reply::failure(status, &text)),
        }
    }
}

impl NoAnswer {
    pub(super) fn bad(error: &dyn std::fmt::Display) -> Self {
        Self::Bad(error.to_string())
    }

    pub(super) fn client(_: io::Error) -> Self {
        Self::Client(Ending::ClientLeft)
    }

    pub(super) fn of_body(error: &PumpError) -> Self {
        match error {
            PumpError::Sink(_) => Self::Client(Ending::ClientLeft),
            PumpError::SinkIdle => Self::Client(Ending::ClientTimeout),
            PumpError::SourceIdle => Self::BodyTimeout,
            PumpError::Source(_) | PumpError::TooLarge => Self::Body,
        }
    }

    /// What is said of the upstream called `name`.
    pub(super) fn explain(&self, name: &str) -> Failure {
        let (ending, status, text) = match self {
            NoAnswer::Timeout | NoAnswer::BodyTimeout => (
                Ending::UpstreamTimeout,
                504,
                format!("{name} did not answer in time."),
            ),
            NoAnswer::Ended => (
                Ending::UpstreamBroke,
                502,
                format!("{name} broke off before its answer."),
            ),
            NoAnswer::NotSwitched(status) => (
                Ending::UpstreamBroke,
                502,
                format!("{name} answered {status} instead of opening a WebSocket."),
            ),
            NoAnswer::Bad(reason) => {
                tracing::warn!(reason, "the upstream's answer cannot be passed on");
                (
                    Ending::UpstreamBroke,
                    502,
                    format!("{name} gave an answer that cannot be passed on."),
                )
            }
            NoAnswer::Body | NoAnswer::Client(_) => (
                Ending::UpstreamBroke,
                502,
                format!("{name} broke off its answer."),
            ),
        };
        Failure {
            ending,
            reply: Some(Reply::failure(status, &text)),
        }
    }
}
