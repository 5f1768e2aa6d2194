//! Names the ways in which a request ends.

use super::reject_reason::RejectReason;

/// The way in which a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    ClientLeft,
    ClientTimeout,
    /// A WebSocket that the client closed first.
    ClosedByClient,
    /// A WebSocket that the upstream closed first.
    ClosedByUpstream,
    /// The upstream did not accept the connection in time.
    ConnectTimeout,
    UpstreamConnect,
    UpstreamTimeout,
    UpstreamBroke,
    Rejected(RejectReason),
    /// The gateway stopped before the request was complete.
    Drained,
}

impl Ending {
    /// Returns the label for logs and spans.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Complete | Self::ClosedByClient | Self::ClosedByUpstream => "complete",
            Self::ClientLeft => "client_left",
            Self::ClientTimeout => "client_timeout",
            Self::ConnectTimeout | Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamBroke => "upstream_broke",
            Self::Rejected(_) => "refused",
            Self::Drained => "drained",
        }
    }

    /// Returns the label of the reason if the request was rejected.
    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Rejected(reason) => Some(reason.label()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use fluxlit_policy::Reason;

    use super::*;

    #[test]
    fn every_ending_has_a_label_and_only_a_rejection_a_reason() {
        let endings = [
            (Ending::Complete, "complete", None),
            (Ending::ClientLeft, "client_left", None),
            (Ending::ClientTimeout, "client_timeout", None),
            (Ending::ClosedByClient, "complete", None),
            (Ending::ClosedByUpstream, "complete", None),
            (Ending::ConnectTimeout, "upstream_connect", None),
            (Ending::UpstreamConnect, "upstream_connect", None),
            (Ending::UpstreamTimeout, "upstream_timeout", None),
            (Ending::UpstreamBroke, "upstream_broke", None),
            (
                Ending::Rejected(RejectReason::Policy(Reason::BadHost)),
                "refused",
                Some("bad_host"),
            ),
            (Ending::Drained, "drained", None),
        ];
        for (ending, label, reason) in endings {
            assert_eq!((ending.label(), ending.reason()), (label, reason));
        }
    }
}
