//! Names who ended a request or a WebSocket, and in which phase, as a code of two letters.
//!
//! The first letter is a [`Side`], the second a [`Phase`]; `--` is a request that ended as it should. Each place that knows an
//! outcome sets the [`Ending`], and each step of an exchange its phase; the code follows from both.

use std::fmt;

use super::ending::Ending;

/// Who ended a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Nobody: it is complete.
    Nobody,
    Client,
    /// A rule of the gateway.
    Gateway,
    Upstream,
    /// A limit of size, number or time.
    Limit,
    /// The gateway, because it stops.
    Drain,
}

/// How far a request has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// The request's head is read and decided.
    #[default]
    Head,
    /// It waits for its turn.
    Queue,
    /// A connection to the upstream is opened.
    Connect,
    /// Its body is sent to the upstream.
    Send,
    /// The upstream's response is awaited.
    Wait,
    /// The response is sent.
    Body,
    /// Both sides have switched to WebSocket.
    Tunnel,
}

/// Who ended a request, and in which phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Termination {
    pub(crate) side: Side,
    phase: Phase,
}

impl Side {
    pub(crate) const ALL: [Self; 6] = [
        Self::Nobody,
        Self::Client,
        Self::Gateway,
        Self::Upstream,
        Self::Limit,
        Self::Drain,
    ];

    /// Returns the label for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
            Self::Limit => "limit",
            Self::Drain => "drain",
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Nobody => '-',
            Self::Client => 'C',
            Self::Gateway => 'G',
            Self::Upstream => 'U',
            Self::Limit => 'L',
            Self::Drain => 'D',
        }
    }
}

impl Phase {
    fn letter(self) -> char {
        match self {
            Self::Head => 'R',
            Self::Queue => 'Q',
            Self::Connect => 'C',
            Self::Send => 'S',
            Self::Wait => 'H',
            Self::Body => 'B',
            Self::Tunnel => 'T',
        }
    }
}

impl Termination {
    pub(crate) fn new(ending: Ending, phase: Phase) -> Self {
        let side = match ending {
            Ending::Complete => Side::Nobody,
            Ending::ClientLeft | Ending::ClosedByClient => Side::Client,
            Ending::UpstreamConnect | Ending::UpstreamBroke | Ending::ClosedByUpstream => {
                Side::Upstream
            }
            Ending::ClientTimeout | Ending::ConnectTimeout | Ending::UpstreamTimeout => Side::Limit,
            Ending::Rejected(reason) if reason.is_limit() => Side::Limit,
            Ending::Rejected(_) => Side::Gateway,
            Ending::Drained => Side::Drain,
        };
        Self { side, phase }
    }
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.side {
            Side::Nobody => '-',
            _ => self.phase.letter(),
        };
        write!(f, "{}{phase}", self.side.letter())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fluxlit_policy::Reason;

    use super::super::reject_reason::RejectReason;
    use super::*;

    #[test]
    fn a_code_says_who_and_when() {
        for (ending, phase, code) in [
            (Ending::Complete, Phase::Body, "--"),
            (Ending::ClientLeft, Phase::Queue, "CQ"),
            (Ending::ClientLeft, Phase::Send, "CS"),
            (Ending::ClientTimeout, Phase::Body, "LB"),
            (Ending::UpstreamConnect, Phase::Connect, "UC"),
            (Ending::ConnectTimeout, Phase::Connect, "LC"),
            (Ending::UpstreamTimeout, Phase::Wait, "LH"),
            (Ending::UpstreamBroke, Phase::Wait, "UH"),
            (Ending::ClosedByClient, Phase::Tunnel, "CT"),
            (Ending::ClosedByUpstream, Phase::Tunnel, "UT"),
            (Ending::Drained, Phase::Tunnel, "DT"),
            (
                Ending::Rejected(RejectReason::Policy(Reason::BadHost)),
                Phase::Head,
                "GR",
            ),
            (
                Ending::Rejected(RejectReason::Policy(Reason::TargetTooLong)),
                Phase::Head,
                "LR",
            ),
            (
                Ending::Rejected(RejectReason::TooManyRequests),
                Phase::Queue,
                "LQ",
            ),
            (
                Ending::Rejected(RejectReason::BodyTooLarge),
                Phase::Send,
                "LS",
            ),
            (Ending::Rejected(RejectReason::BadBody), Phase::Send, "GS"),
            (
                Ending::Rejected(RejectReason::PageForAsset),
                Phase::Wait,
                "GH",
            ),
        ] {
            assert_eq!(Termination::new(ending, phase).to_string(), code);
        }
    }

    #[test]
    fn letters_are_unique() {
        let sides: BTreeSet<char> = Side::ALL.into_iter().map(Side::letter).collect();
        assert_eq!(sides.len(), Side::ALL.len());
        let phases = [
            Phase::Head,
            Phase::Queue,
            Phase::Connect,
            Phase::Send,
            Phase::Wait,
            Phase::Body,
            Phase::Tunnel,
        ];
        let letters: BTreeSet<char> = phases.into_iter().map(Phase::letter).collect();
        assert_eq!(letters.len(), phases.len());
    }
}
