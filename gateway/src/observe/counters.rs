//! What does a worker count?
//!
//! Each worker counts in a block of its own, with plain loads and stores: it is the only writer. Nothing is locked,
//! hashed or allocated on a request's way, so counting is always on; whether the figures can be read is another matter.
//!
//! A request is counted when it has ended, a WebSocket therefore when it is closed; beside that, WebSockets are counted
//! as they open. No label holds what a client sent.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::metrics::Upstream;
use super::reject_reason::RejectReason;
use super::{Dispatch, Ending, Record};

/// What one worker counts. It can move to the worker's thread, and cannot be shared with another.
pub(crate) struct Counters {
    block: Arc<Block>,
    single_writer: PhantomData<Cell<()>>,
}

impl Counters {
    pub(super) fn new(block: Arc<Block>) -> Self {
        Self {
            block,
            single_writer: PhantomData,
        }
    }

    /// Counts a request that has ended.
    pub(crate) fn ended(&self, record: &Record<'_>) {
        let block = &*self.block;
        let of = &block.dispatches[record.dispatch as usize];
        of.methods[method_kind(record)].add(1);
        of.statuses[status_class(record.status)].add(1);
        of.received_bytes.add(record.received_bytes);
        of.sent_bytes.add(record.sent_bytes);
        of.buckets[bucket(record.duration)].add(1);
        of.nanoseconds
            .add(record.duration.as_nanos().try_into().unwrap_or(u64::MAX));
        block.trust[position(&TRUST, record.trust.label())].add(1);
        let upstream_error = match record.ending {
            Ending::UpstreamConnect => 0,
            Ending::UpstreamTimeout => 1,
            Ending::UpstreamBroke => 2,
            Ending::Refused(reason) => {
                let index = RejectReason::all().position(|known| known == reason);
                if let Some(count) = index.and_then(|index| block.refused.get(index)) {
                    count.add(1);
                }
                return;
            }
            _ => return,
        };
        block.upstream_errors[upstream_error].add(1);
    }

    /// A kept connection to an upstream was gone, and the request went out on another one.
    pub(crate) fn upstream_retried(&self) {
        self.block.upstream_retries.add(1);
    }

    pub(crate) fn connection_opened(&self) {
        self.block.connections_opened.add(1);
    }

    pub(crate) fn connection_closed(&self) {
        self.block.connections_closed.add(1);
    }

    pub(crate) fn websocket_opened(&self) {
        self.block.websockets_opened.add(1);
    }

    pub(crate) fn websocket_closed(&self) {
        self.block.websockets_closed.add(1);
    }

    /// How many connections to an upstream this worker has, without and with a request.
    pub(crate) fn pool(&self, upstream: Upstream, idle: usize, in_use: usize) {
        let [own_idle, own_in_use] = &self.block.pools[upstream as usize];
        own_idle.set(idle as u64);
        own_in_use.set(in_use as u64);
    }
}

/// A worker's figures. Aligned so that no two workers write to the same pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Block {
    pub(super) dispatches: [DispatchBlock; Dispatch::ALL.len()],
    pub(super) trust: [Count; TRUST.len()],
    pub(super) upstream_errors: [Count; UPSTREAM_ERRORS.len()],
    pub(super) upstream_retries: Count,
    pub(super) refused: Box<[Count]>,
    pub(super) connections_opened: Count,
    pub(super) connections_closed: Count,
    pub(super) websockets_opened: Count,
    pub(super) websockets_closed: Count,
    /// Idle, in use.
    pub(super) pools: [[Count; 2]; Upstream::ALL.len()],
}

#[derive(Debug, Default)]
pub(super) struct DispatchBlock {
    pub(super) methods: [Count; METHODS.len()],
    pub(super) statuses: [Count; STATUS_CLASSES.len()],
    pub(super) received_bytes: Count,
    pub(super) sent_bytes: Count,
    pub(super) buckets: [Count; BUCKETS.len() + 1],
    pub(super) nanoseconds: Count,
}

impl Block {
    pub(super) fn new() -> Self {
        Self {
            refused: refused_labels().map(|_| Count::default()).collect(),
            ..Self::default()
        }
    }

    /// Adds what another counts.
    pub(super) fn add(&self, other: &Self) {
        for (sum, count) in self.counts().zip(other.counts()) {
            sum.add(count.get());
        }
    }

    /// Every figure, in one order.
    fn counts(&self) -> impl Iterator<Item = &Count> {
        let dispatches = self.dispatches.iter().flat_map(|of| {
            let single = [&of.received_bytes, &of.sent_bytes, &of.nanoseconds];
            let lists = of.methods.iter().chain(&of.statuses).chain(&of.buckets);
            lists.chain(single)
        });
        let single = [
            // Those closed first, so that none counts as closed that does not count as opened.
            &self.connections_closed,
            &self.websockets_closed,
            &self.connections_opened,
            &self.websockets_opened,
            &self.upstream_retries,
        ];
        let lists = self.trust.iter().chain(&self.upstream_errors);
        let lists = lists.chain(&self.refused).chain(self.pools.as_flattened());
        dispatches.chain(lists).chain(single)
    }
}

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    fn add(&self, more: u64) {
        // Cheaper than `fetch_add`, and as right: there is no other writer.
        self.set(self.get().wrapping_add(more));
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn method_kind(record: &Record<'_>) -> usize {
    let method: &[u8] = if record.is_websocket {
        b"WEBSOCKET"
    } else {
        record.method
    };
    METHODS
        .iter()
        .position(|known| known.as_bytes() == method)
        .unwrap_or(METHODS.len() - 1)
}

fn status_class(status: u16) -> usize {
    match status {
        100..600 => usize::from(status / 100),
        // What an app may make up is an error of a server to everybody, RFC 9110 §15.
        600.. => 5,
        _ => 0,
    }
}

fn bucket(duration: Duration) -> usize {
    BUCKETS
        .iter()
        .position(|milliseconds| duration <= Duration::from_millis(*milliseconds))
        .unwrap_or(BUCKETS.len())
}

/// Where a label is among those that are known; the last is for all others.
fn position(labels: &[&'static str], label: &str) -> usize {
    labels
        .iter()
        .position(|known| *known == label)
        .unwrap_or(labels.len() - 1)
}

pub(super) const METHODS: [&str; 11] = [
    "GET",
    "POST",
    "HEAD",
    "PUT",
    "WEBSOCKET",
    "OPTIONS",
    "DELETE",
    "PATCH",
    "CONNECT",
    "TRACE",
    "OTHER",
];
pub(super) const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
pub(super) const UPSTREAM_ERRORS: [&str; 3] = ["connect", "timeout", "broke"];

/// The labels of rejected requests by reason. Nothing is counted as `other`, which dashboards may know from before.
pub(super) fn refused_labels() -> impl Iterator<Item = &'static str> {
    RejectReason::all()
        .map(RejectReason::label)
        .chain(["other"])
}

/// Upper bounds in milliseconds.
pub(super) const BUCKETS: [u64; 12] = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// The labels of the policy's trust outcomes.
pub(super) const TRUST: [&str; 7] = [
    "trusted_header",
    "untrusted",
    "trusted_peer",
    "trusted_header_all_trusted",
    "trusted_stopped",
    "peer_unknown",
    "other",
];

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::typical;
    use super::*;

    #[test]
    fn a_method_is_counted_by_its_name_if_it_is_known() {
        let table: [(&[u8], bool, &str); 6] = [
            (b"GET", false, "GET"),
            (b"GET", true, "WEBSOCKET"),
            (b"PATCH", false, "PATCH"),
            // Names are case-sensitive, RFC 9110 §9.1.
            (b"get", false, "OTHER"),
            (b"X\xff\"}", false, "OTHER"),
            (b"", false, "OTHER"),
        ];
        for (method, is_websocket, expected) in table {
            let record = Record {
                method,
                is_websocket,
                ..typical()
            };
            assert_eq!(METHODS[method_kind(&record)], expected);
        }
    }

    #[test]
    fn a_status_has_a_class_or_none() {
        let table = [
            (0, "none"),
            (99, "none"),
            (101, "1xx"),
            (200, "2xx"),
            (304, "3xx"),
            (431, "4xx"),
            (599, "5xx"),
            (600, "5xx"),
            (999, "5xx"),
        ];
        for (status, expected) in table {
            assert_eq!(STATUS_CLASSES[status_class(status)], expected);
        }
    }

    #[test]
    fn a_duration_on_the_bound_is_within() {
        let table = [
            (Duration::ZERO, 0),
            (Duration::from_millis(1), 0),
            (Duration::from_micros(1001), 1),
            (Duration::from_secs(10), 11),
            (Duration::from_millis(10_001), 12),
            (Duration::MAX, 12),
        ];
        for (duration, expected) in table {
            assert_eq!(bucket(duration), expected, "{duration:?}");
        }
    }

    #[test]
    fn every_outcome_of_the_policy_has_a_label() {
        let outcomes = fluxlit_policy::TrustOutcome::ALL;
        assert_eq!(outcomes.len() + 1, TRUST.len());
        for outcome in outcomes {
            assert_eq!(TRUST[position(&TRUST, outcome.label())], outcome.label());
        }
    }
}
