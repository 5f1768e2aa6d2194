//! What became of a request, and who is told?
//!
//! The data path tells a [`Record`] once, when the request has ended: its answer was sent, its tunnel was closed, or
//! somebody left. What is made of it is decided here and nowhere else.
//!
//! Each worker has an [`Observer`] of its own, so that telling takes no lock.

pub(crate) mod access_log;
pub(crate) mod debug;
pub(crate) mod exposition;
pub(crate) mod line;
pub(crate) mod metrics;
pub(crate) mod otlp;
mod process;
mod span;
pub(crate) mod target;
pub(crate) mod trace;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use access_log::Logger;
use debug::Memory;
use metrics::Counters;
use otlp::Spans;
use trace::Trace;

/// A request that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Record<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) trace: Option<&'a Trace>,
    pub(crate) dispatch: Dispatch,
    pub(crate) method: &'a [u8],
    pub(crate) is_websocket: bool,
    /// `1.0`, `1.1` or `2`.
    pub(crate) version: &'static str,
    /// As received: path and query.
    pub(crate) target: &'a [u8],
    pub(crate) host: Option<&'a str>,
    /// Who the request is from, by the policy.
    pub(crate) client: Option<&'a str>,
    pub(crate) peer: IpAddr,
    /// The label of the trust outcome.
    pub(crate) trust: &'static str,
    /// Zero if no answer was sent.
    pub(crate) status: u16,
    pub(crate) ending: Ending,
    /// Of the request's body.
    pub(crate) received_bytes: u64,
    /// Of the answer's body.
    pub(crate) sent_bytes: u64,
    pub(crate) started: SystemTime,
    pub(crate) duration: Duration,
    /// Until the head of the upstream's answer.
    pub(crate) upstream_duration: Option<Duration>,
}

/// Who a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dispatch {
    Api,
    Streamlit,
    /// Ourselves: health, redirects, whatever was refused before it was for anybody.
    Gateway,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    ClientLeft,
    ClientTimeout,
    UpstreamConnect,
    UpstreamTimeout,
    UpstreamBroke,
    /// With the label of the reason.
    Refused(&'static str),
    /// Cut off because the gateway stops.
    Drained,
}

/// What a worker tells about its requests, and its connections.
#[derive(Debug)]
pub(crate) struct Observer {
    /// Always counted: a few additions.
    pub(crate) counters: Counters,
    /// None if there is no log of requests.
    pub(crate) access_log: Option<Logger>,
    /// None unless the gateway is in debug mode.
    pub(crate) debug: Option<Memory>,
    /// None if spans are not exported.
    pub(crate) spans: Option<Spans>,
}

impl Observer {
    /// Whether the id of a trace is written anywhere, and whether spans are exported.
    pub(crate) fn traces(&self) -> (bool, bool) {
        (self.access_log.is_some(), self.spans.is_some())
    }

    /// Tells what became of a request.
    pub(crate) fn ended(&self, record: &Record<'_>) {
        self.counters.ended(record);
        if let Some(log) = &self.access_log {
            log.write(record);
        }
        if let Some(memory) = &self.debug {
            memory.add(record);
        }
        if let Some(spans) = &self.spans {
            spans.export(record);
        }
    }
}

impl Dispatch {
    pub(crate) const ALL: [Self; 3] = [Self::Api, Self::Streamlit, Self::Gateway];

    /// The label that FluxLit gives it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Streamlit => "streamlit",
            Self::Gateway => "gateway",
        }
    }
}

impl Ending {
    /// A word for logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientLeft => "client_left",
            Self::ClientTimeout => "client_timeout",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamBroke => "upstream_broke",
            Self::Refused(_) => "refused",
            Self::Drained => "drained",
        }
    }

    /// Why the request was refused, if it was.
    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Refused(reason) => Some(reason),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A request as most are, for tests to change one thing of.
    pub(crate) fn typical() -> Record<'static> {
        Record {
            request_id: "0190",
            trace: None,
            dispatch: Dispatch::Streamlit,
            method: b"GET",
            is_websocket: false,
            version: "1.1",
            target: b"/apps/my-app/?page=2",
            host: Some("portal.example"),
            client: Some("203.0.113.7"),
            peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            trust: "trusted_header",
            status: 200,
            ending: Ending::Complete,
            received_bytes: 0,
            sent_bytes: 1024,
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_123),
            duration: Duration::from_micros(1_500),
            upstream_duration: Some(Duration::from_micros(1_250)),
        }
    }

    #[test]
    fn every_ending_has_a_word_and_only_a_refusal_a_reason() {
        let endings = [
            (Ending::Complete, "complete", None),
            (Ending::ClientLeft, "client_left", None),
            (Ending::ClientTimeout, "client_timeout", None),
            (Ending::UpstreamConnect, "upstream_connect", None),
            (Ending::UpstreamTimeout, "upstream_timeout", None),
            (Ending::UpstreamBroke, "upstream_broke", None),
            (Ending::Refused("bad_host"), "refused", Some("bad_host")),
            (Ending::Drained, "drained", None),
        ];
        for (ending, label, reason) in endings {
            assert_eq!((ending.label(), ending.reason()), (label, reason));
        }
    }
}
