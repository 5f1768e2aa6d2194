//! Turns every error into a response and a log line.
//!
//! A [`Rejection`] is the client's fault and has a reason for logs and metrics; a [`ResponseError`] is the upstream's. Both
//! become a [`Failure`], which contains a [`LocalReply`] unless a response has begun or the client has gone.

use std::borrow::Cow;
use std::io;

use crate::http::body::{BodyError, PumpError};
use crate::http::framing::LengthError;
use crate::http::head::HeadError;
use crate::observe::Ending;
use crate::observe::reject_reason::RejectReason;
use crate::proxy::local_reply::LocalReply;

/// The rejection of a request that is invalid or exceeds a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) reason: RejectReason,
    pub(crate) status: u16,
    text: Cow<'static, str>,
}

/// A request that gets no response from the upstream, or not a complete one.
pub(super) struct Failure {
    pub(super) ending: Ending,
    /// The response, if the client is still there and has not received another one.
    pub(super) reply: Option<LocalReply>,
}

/// The error while a response is awaited or passed on.
pub(super) enum ResponseError {
    /// The response ended early.
    Body,
    /// The next part of the body did not arrive in time.
    BodyTimeout,
    /// The client left, or did not read the response in time.
    Client(Ending),
    /// The connection was closed before the response.
    Closed,
    /// The response is malformed; the text says why.
    Invalid(String),
    /// A WebSocket handshake got this status, which does not open a WebSocket.
    NotSwitched(u16),
    /// The page came in response to a request for a script or a style sheet.
    PageForAsset,
    /// The response did not begin in time.
    Timeout,
}

impl Rejection {
    pub(crate) fn new(
        reason: RejectReason,
        status: u16,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            reason,
            status,
            text: text.into(),
        }
    }

    /// Rejects a request whose head is malformed or not supported.
    pub(crate) fn bad_head(status: u16, text: &'static str) -> Self {
        Self::new(RejectReason::BadHead, status, text)
    }

    /// Rejects a request whose body has two lengths or an invalid one.
    pub(crate) fn ambiguous_length() -> Self {
        Self::bad_head(400, "The length of the body is ambiguous.")
    }

    pub(crate) fn body_too_large(max: u64) -> Self {
        let text = format!(
            "Payload Too Large: a body may be at most {max} bytes (FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES)."
        );
        Self::new(RejectReason::BodyTooLarge, 413, text)
    }

    pub(crate) fn head_timeout() -> Self {
        let text = "The request was not received in time.";
        Self::new(RejectReason::HeadTooSlow, 408, text)
    }

    pub(crate) fn too_many_connections() -> Self {
        let text = "Too many connections; try again.";
        Self::new(RejectReason::TooManyConnections, 503, text)
    }

    pub(crate) fn wrong_protocol() -> Self {
        let text = "The TLS handshake selected another version of HTTP (ALPN).";
        Self::new(RejectReason::WrongProtocol, 400, text)
    }

    pub(super) fn too_many_requests() -> Self {
        let text = "Too many requests are in progress; try again.";
        Self::new(RejectReason::TooManyRequests, 503, text)
    }
}

impl From<HeadError> for Rejection {
    fn from(error: HeadError) -> Self {
        let too_large = |text| Self::new(RejectReason::HeadTooLarge, 431, text);
        match error {
            HeadError::BareLineFeed => {
                Self::bad_head(400, "A line of the request ends without a carriage return.")
            }
            HeadError::Field => Self::bad_head(400, "A header line of the request is malformed."),
            HeadError::Folded => Self::bad_head(400, "A header line of the request is folded."),
            HeadError::StartLine => {
                Self::bad_head(400, "The first line of the request is malformed.")
            }
            HeadError::TooLarge => too_large("The head of the request is too large."),
            HeadError::TooManyFields => too_large("The request has too many header lines."),
            HeadError::Version => Self::bad_head(505, "This version of HTTP is not supported."),
        }
    }
}

impl From<LengthError> for Rejection {
    fn from(error: LengthError) -> Self {
        match error {
            LengthError::Coding => Self::bad_head(501, "This transfer coding is not supported."),
            LengthError::Both
            | LengthError::Length
            | LengthError::NotChunked
            | LengthError::Version => Self::ambiguous_length(),
        }
    }
}

impl From<Rejection> for LocalReply {
    fn from(rejection: Rejection) -> Self {
        let reply = Self::failure(rejection.status, &rejection.text);
        match rejection.status {
            503 => reply.with("retry-after", b"1".as_slice()),
            _ => reply,
        }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self {
            ending: Ending::Rejected(rejection.reason),
            reply: Some(rejection.into()),
        }
    }
}

impl Failure {
    pub(super) fn client_left() -> Self {
        Self {
            ending: Ending::ClientLeft,
            reply: None,
        }
    }

    /// The failure when the request's body cannot be forwarded. `max`: maximum size of a body in bytes.
    pub(super) fn of_upload(error: &PumpError, max: u64) -> Self {
        match error {
            PumpError::TooLarge => Rejection::body_too_large(max).into(),
            PumpError::Source(BodyError::TrailersTooLarge) => {
                let text = "The trailers of the request are too large.";
                Rejection::new(RejectReason::HeadTooLarge, 431, text).into()
            }
            PumpError::Source(BodyError::Chunk(_) | BodyError::Trailers) => {
                let text = "The body of the request is malformed.";
                Rejection::new(RejectReason::BadBody, 400, text).into()
            }
            PumpError::SourceIdle => {
                let text = "The body of the request was not received in time.";
                Self {
                    ending: Ending::ClientTimeout,
                    reply: Some(LocalReply::failure(408, text)),
                }
            }
            PumpError::Sink(_) | PumpError::SinkIdle | PumpError::Source(_) => Self::client_left(),
        }
    }

    /// The failure when the upstream cannot be reached. `reply` depends on whether it has been ready before.
    pub(super) fn connect(ending: Ending, reply: LocalReply) -> Self {
        Self {
            ending,
            reply: Some(reply),
        }
    }
}

impl ResponseError {
    pub(super) fn invalid(error: &dyn std::fmt::Display) -> Self {
        Self::Invalid(error.to_string())
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

    /// Turns the error into a failure. `name`: the upstream, as named in responses.
    pub(super) fn into_failure(self, name: &str) -> Failure {
        let (ending, status, text) = match self {
            Self::Client(ending) => {
                return Failure {
                    ending,
                    reply: None,
                };
            }
            Self::PageForAsset => {
                let text = "The app has no such file: it may have been upgraded since the page was loaded. Reload the page.";
                let rejection = Rejection::new(RejectReason::PageForAsset, 404, text);
                let reply = LocalReply::from(rejection);
                return Failure {
                    ending: Ending::Rejected(RejectReason::PageForAsset),
                    reply: Some(reply.with("cache-control", b"no-store".as_slice())),
                };
            }
            Self::Timeout | Self::BodyTimeout => (
                Ending::UpstreamTimeout,
                504,
                format!("{name} did not respond in time."),
            ),
            Self::Closed => (
                Ending::UpstreamBroke,
                502,
                format!("{name} closed the connection before its response."),
            ),
            Self::NotSwitched(status) => (
                Ending::UpstreamBroke,
                502,
                format!("{name} responded with {status} instead of opening a WebSocket."),
            ),
            Self::Invalid(reason) => {
                tracing::warn!(reason, "the upstream's response is invalid");
                (
                    Ending::UpstreamBroke,
                    502,
                    format!("{name} sent an invalid response."),
                )
            }
            Self::Body => (
                Ending::UpstreamBroke,
                502,
                format!("{name} closed the connection within its response."),
            ),
        };
        Failure {
            ending,
            reply: Some(LocalReply::failure(status, &text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_malformed_heads() {
        for (error, status) in [
            (HeadError::BareLineFeed, 400),
            (HeadError::Field, 400),
            (HeadError::Folded, 400),
            (HeadError::StartLine, 400),
            (HeadError::TooLarge, 431),
            (HeadError::TooManyFields, 431),
            (HeadError::Version, 505),
        ] {
            assert_eq!(Rejection::from(error).status, status, "{error}");
        }
        for (error, status) in [
            (LengthError::Both, 400),
            (LengthError::Coding, 501),
            (LengthError::Length, 400),
            (LengthError::NotChunked, 400),
            (LengthError::Version, 400),
        ] {
            assert_eq!(Rejection::from(error).status, status, "{error}");
        }
    }

    #[test]
    fn failures_of_uploads() {
        use crate::http::chunked::ChunkError;
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        for (error, status) in [
            (PumpError::TooLarge, Some(413)),
            (PumpError::Source(BodyError::TrailersTooLarge), Some(431)),
            (PumpError::Source(BodyError::Trailers), Some(400)),
            (
                PumpError::Source(BodyError::Chunk(ChunkError::TooLong)),
                Some(400),
            ),
            (PumpError::SourceIdle, Some(408)),
            (PumpError::Source(BodyError::Incomplete), None),
            (PumpError::Source(BodyError::Broken(broken())), None),
            (PumpError::Sink(broken()), None),
            (PumpError::SinkIdle, None),
        ] {
            let reply = Failure::of_upload(&error, 1).reply;
            assert_eq!(reply.map(|reply| reply.status), status, "{error}");
        }
    }

    #[test]
    fn failures_of_responses() {
        for (error, status) in [
            (ResponseError::Body, Some(502)),
            (ResponseError::BodyTimeout, Some(504)),
            (ResponseError::Client(Ending::ClientLeft), None),
            (ResponseError::Closed, Some(502)),
            (ResponseError::Invalid("x".to_owned()), Some(502)),
            (ResponseError::NotSwitched(200), Some(502)),
            (ResponseError::PageForAsset, Some(404)),
            (ResponseError::Timeout, Some(504)),
        ] {
            let reply = error.into_failure("The app").reply;
            assert_eq!(reply.map(|reply| reply.status), status);
        }
        for (error, status) in [
            (PumpError::Sink(io::ErrorKind::BrokenPipe.into()), None),
            (PumpError::SinkIdle, None),
            (PumpError::SourceIdle, Some(504)),
            (PumpError::Source(BodyError::Incomplete), Some(502)),
        ] {
            let reply = ResponseError::of_body(&error).into_failure("The app").reply;
            assert_eq!(reply.map(|reply| reply.status), status, "{error}");
        }
    }
}
