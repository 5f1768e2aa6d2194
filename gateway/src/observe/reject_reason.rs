//! Names the reasons for which the gateway rejects a request, one label each for logs and metrics.
//!
//! A reason that is added to the table below gets its label and its place in [`RejectReason::all`] from there, so neither
//! can be forgotten.

use fluxlit_policy::Reason;

macro_rules! reject_reasons {
    ($($(#[$doc:meta])+ $name:ident => $label:literal,)+) => {
        /// The reason for which a request is rejected.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum RejectReason {
            /// A reason of the policy.
            Policy(Reason),
            $($(#[$doc])+ $name,)+
        }

        impl RejectReason {
            const OWN: &[Self] = &[$(Self::$name),+];

            /// Returns the label for logs and metrics.
            pub(crate) fn label(self) -> &'static str {
                match self {
                    Self::Policy(reason) => reason.label(),
                    $(Self::$name => $label,)+
                }
            }
        }
    };
}

reject_reasons! {
    /// The body or its trailers are malformed.
    BadBody => "bad_body",
    /// The head is malformed or not supported.
    BadHead => "bad_head",
    /// The body is larger than allowed.
    BodyTooLarge => "body_too_large",
    /// The request has an `Expect` other than `100-continue`.
    Expectation => "expectation",
    /// A page of another origin opens a WebSocket.
    ForeignOrigin => "foreign_origin",
    /// The WebSocket handshake is malformed.
    Handshake => "handshake",
    /// The WebSocket handshake exceeds the limits of Streamlit.
    HandshakeTooLarge => "handshake_too_large",
    /// The head or the trailers are larger than allowed.
    HeadTooLarge => "head_too_large",
    /// The head did not arrive in time.
    HeadTooSlow => "head_too_slow",
    /// The request has several `Host` lines, or none.
    HostLines => "host_lines",
    /// The app has responded to a request for a script or a style sheet with its page.
    PageForAsset => "page_for_asset",
    /// Too many requests are waiting for an upstream.
    TooManyRequests => "too_many_requests",
    /// Too many connections are open.
    TooManyConnections => "too_many_connections",
    /// The method is TRACE.
    Trace => "trace",
    /// The client uses another version of HTTP than the TLS handshake has selected.
    WrongProtocol => "wrong_protocol",
}

impl RejectReason {
    /// Returns true if the request exceeds a limit of size, number or time; false if it breaks a rule.
    pub(crate) fn is_limit(self) -> bool {
        matches!(
            self,
            Self::Policy(Reason::TargetTooLong)
                | Self::BodyTooLarge
                | Self::HandshakeTooLarge
                | Self::HeadTooLarge
                | Self::HeadTooSlow
                | Self::TooManyRequests
                | Self::TooManyConnections
        )
    }

    /// Returns every reason in the order of the metrics, those of the policy first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of_policy = Reason::ALL.iter().copied().map(Self::Policy);
        of_policy.chain(Self::OWN.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_a_row_for_every_reason_and_no_other() {
        let page = include_str!("../../../docs/observability.md");
        let of_policy: Vec<RejectReason> = Reason::ALL
            .iter()
            .copied()
            .map(RejectReason::Policy)
            .collect();
        for (heading, reasons) in [
            ("| reason of the policy |", of_policy.as_slice()),
            ("| reason of the gateway |", RejectReason::OWN),
        ] {
            let (_, table) = page.split_once(heading).expect(heading);
            let rows: Vec<&str> = table
                .lines()
                .skip(2)
                .map_while(|row| row.strip_prefix("| ")?.split(" |").next())
                .collect();
            let labels: Vec<&str> = reasons.iter().map(|reason| reason.label()).collect();
            assert_eq!(rows, labels, "{heading}");
        }
    }

    #[test]
    fn labels_are_unique() {
        let mut labels: Vec<&str> = RejectReason::all().map(RejectReason::label).collect();
        labels.sort_unstable();
        let count = labels.len();
        labels.dedup();
        assert_eq!(labels.len(), count);
    }
}
