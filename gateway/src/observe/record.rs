//! Defines the record of a request that has ended.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use fluxlit_policy::TrustOutcome;

use super::ending::Ending;
use super::termination::{Phase, Termination};
use super::trace::Trace;

/// A request that has ended, as metrics, logs and traces need it.
#[derive(Debug, Clone)]
pub(crate) struct Record<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) trace: Option<&'a Trace>,
    pub(crate) dispatch: Dispatch,
    pub(crate) method: &'a [u8],
    pub(crate) is_websocket: bool,
    /// `None` if nothing was read from the connection.
    pub(crate) version: Option<HttpVersion>,
    /// Path and query, as received.
    pub(crate) target: &'a [u8],
    pub(crate) host: Option<&'a str>,
    /// The client that the policy found.
    pub(crate) client: Option<&'a str>,
    pub(crate) peer: IpAddr,
    pub(crate) trust: TrustOutcome,
    /// The status that was sent; 0 if there was no response.
    pub(crate) status: u16,
    pub(crate) ending: Ending,
    /// How far the request had got when it ended.
    pub(crate) phase: Phase,
    /// Bytes of the request's body.
    pub(crate) received_bytes: u64,
    /// Bytes of the response's body.
    pub(crate) sent_bytes: u64,
    pub(crate) started: SystemTime,
    pub(crate) duration: Duration,
    /// Time until the head of the upstream's response.
    pub(crate) upstream_duration: Option<Duration>,
}

/// The client's version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http10,
    Http11,
    Http2,
}

/// The destination of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dispatch {
    Api,
    Streamlit,
    /// The gateway itself: health, redirects, and requests that were rejected.
    Gateway,
}

impl Record<'_> {
    /// Returns who ended the request, and in which phase.
    pub(crate) fn termination(&self) -> Termination {
        Termination::new(self.ending, self.phase)
    }
}

impl HttpVersion {
    /// Returns the label for logs and spans.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

impl Dispatch {
    pub(crate) const ALL: [Self; 3] = [Self::Api, Self::Streamlit, Self::Gateway];

    /// Returns the label, which is also FluxLit's.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Streamlit => "streamlit",
            Self::Gateway => "gateway",
        }
    }
}
