//! Describes how a WebSocket was closed, with labels whose number is limited.

/// Who closed a WebSocket first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClosedBy {
    Client,
    Upstream,
    /// The gateway, because nothing was sent for too long.
    Limit,
    /// The gateway, because it stops.
    Drain,
}

impl ClosedBy {
    pub(crate) const ALL: [Self; 4] = [Self::Client, Self::Upstream, Self::Limit, Self::Drain];

    /// Returns the label for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Limit => "limit",
            Self::Drain => "drain",
        }
    }
}

/// The code of a connection that ended without a close frame, RFC 6455 §7.1.5.
pub(crate) const NO_CLOSE_FRAME: u16 = 1006;

/// Returns the place of a close code in [`CLOSE_CODES`]. Either side can send any code, so those without a fixed meaning share
/// their label.
pub(super) fn code_index(code: u16) -> usize {
    let label = match code {
        3000..=3999 => "3xxx",
        4000..=4999 => "4xxx",
        code => {
            let named = CLOSE_CODES
                .iter()
                .position(|label| label.parse() == Ok(code));
            return named.unwrap_or(CLOSE_CODES.len() - 1);
        }
    };
    let found = CLOSE_CODES.iter().position(|known| *known == label);
    found.unwrap_or(CLOSE_CODES.len() - 1)
}

/// The labels of close codes: those of RFC 6455 §7.4.1 and of the IANA registry, then ranges. `1005` is a close frame without a
/// code, `1006` no close frame.
pub(super) const CLOSE_CODES: [&str; 17] = [
    "1000", "1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1010", "1011", "1012",
    "1013", "1014", "3xxx", "4xxx", "other",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_of_the_labels() {
        for (code, label) in [
            (1000, "1000"),
            (1005, "1005"),
            (NO_CLOSE_FRAME, "1006"),
            (1014, "1014"),
            (3000, "3xxx"),
            (4999, "4xxx"),
            (0, "other"),
            (1004, "other"),
            (2999, "other"),
            (5000, "other"),
            (u16::MAX, "other"),
        ] {
            assert_eq!(CLOSE_CODES[code_index(code)], label, "{code}");
        }
    }
}
