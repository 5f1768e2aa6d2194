//! Why does the gateway itself refuse a request?
//!
//! The labels of its own reasons, beside those of the policy: one word each, for logs and metrics.

use fluxlit_policy::Reason;

pub(crate) const BAD_BODY: &str = "bad_body";
pub(crate) const BAD_HEAD: &str = "bad_head";
pub(crate) const BODY_TOO_LARGE: &str = "body_too_large";
pub(crate) const EXPECTATION: &str = "expectation";
pub(crate) const FOREIGN_ORIGIN: &str = "foreign_origin";
pub(crate) const HANDSHAKE: &str = "handshake";
pub(crate) const HANDSHAKE_TOO_LARGE: &str = "handshake_too_large";
pub(crate) const HEAD_TOO_LARGE: &str = "head_too_large";
pub(crate) const HEAD_TOO_SLOW: &str = "head_too_slow";
pub(crate) const HOST_LINES: &str = "host_lines";
pub(crate) const TARGET_TOO_LONG: &str = "target_too_long";
pub(crate) const TOO_MANY: &str = "too_many_requests";
pub(crate) const TOO_MANY_CONNECTIONS: &str = "too_many_connections";
pub(crate) const TRACE: &str = "trace";

/// Every label, the policy's included.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    let own = [
        BAD_BODY,
        BAD_HEAD,
        BODY_TOO_LARGE,
        EXPECTATION,
        FOREIGN_ORIGIN,
        HANDSHAKE,
        HANDSHAKE_TOO_LARGE,
        HEAD_TOO_LARGE,
        HEAD_TOO_SLOW,
        HOST_LINES,
        TOO_MANY,
        TOO_MANY_CONNECTIONS,
        TRACE,
    ];
    // The policy has its own limit for targets, with the same label.
    Reason::ALL.into_iter().map(Reason::label).chain(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_label_stands_there_once() {
        let mut labels: Vec<&str> = all().collect();
        labels.sort_unstable();
        let count = labels.len();
        labels.dedup();
        assert_eq!(labels.len(), count);
        assert!(labels.contains(&TARGET_TOO_LONG));
    }
}
