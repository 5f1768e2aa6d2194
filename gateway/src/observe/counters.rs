//! Counts a worker's requests and connections.
//!
//! Each worker counts in its own block with plain loads and stores, because it is the only writer. Nothing is locked, hashed
//! or allocated on the request path, so counting is always on, whether or not the metrics are served.
//!
//! A request is counted when it has ended, so a WebSocket is counted when it is closed; opened WebSockets have a separate
//! counter. No label contains text from a client.
//!
//! **Why not the families of prometheus-client.** Its registry cannot add up one series over several workers, so workers
//! would share the counters (atomic additions on shared cache lines, a locked map per family, a mutex per histogram), or
//! export a series per worker, which changes what operators see. Counting a request costs 12 ns here, 1.5 times that with
//! its counters looked up in advance, and 17 times through its families (prometheus-client 0.25, two
//! workers, the shortest of many rounds).

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fluxlit_policy::{HeaderGroup, ProbeOutcome, TrustOutcome};

use super::reject_reason::RejectReason;
use super::termination::Side;
use super::upstream::Upstream;
use super::websocket_close::{CLOSE_CODES, ClosedBy, code_index};
use super::{Dispatch, Ending, Record};

/// The counters of one worker. They can move to the worker's thread, but cannot be shared with another thread.
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
        of.received_bytes.add(record.received_bytes);
        of.sent_bytes.add(record.sent_bytes);
        of.buckets[bucket(record.duration)].add(1);
        of.nanoseconds.add(nanoseconds(record.duration));
        of.endings[status_class(record.status)][record.termination().side as usize].add(1);
        if record.is_websocket && record.status != 101 {
            block.handshakes[handshake_result(record.ending)].add(1);
        }
        let trust = TrustOutcome::ALL.iter().zip(&block.trust);
        for (_, count) in trust.filter(|(outcome, _)| **outcome == record.trust) {
            count.add(1);
        }
        let upstream_error = match record.ending {
            Ending::UpstreamConnect | Ending::ConnectTimeout => 0,
            Ending::UpstreamTimeout => 1,
            Ending::UpstreamBroke => 2,
            Ending::Rejected(reason) => {
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

    /// Counts a request that was sent again, because the reused connection was closed.
    pub(crate) fn upstream_retried(&self) {
        self.block.upstream_retries.add(1);
    }

    /// Counts a request with an `X-Forwarded-Prefix` that is ignored although its sender is trusted.
    pub(crate) fn prefix_ignored(&self) {
        self.block.prefixes_ignored.add(1);
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

    /// Counts a WebSocket that was closed. `code`: that of the first close frame. `lifetime`: since it was opened.
    pub(crate) fn websocket_closed(&self, by: ClosedBy, code: u16, lifetime: Duration) {
        let block = &*self.block;
        block.websockets_closed.add(1);
        block.closes[by as usize][code_index(code)].add(1);
        let bucket = LIFETIMES
            .iter()
            .position(|seconds| lifetime <= Duration::from_secs(*seconds));
        block.lifetimes[bucket.unwrap_or(LIFETIMES.len())].add(1);
        block.lifetime_nanoseconds.add(nanoseconds(lifetime));
    }

    /// Counts the longest header line of a WebSocket handshake that is for Streamlit.
    pub(crate) fn header_line(&self, bytes: usize) {
        let block = &*self.block;
        let bucket = LINE_BYTES.iter().position(|bound| bytes as u64 <= *bound);
        block.lines[bucket.unwrap_or(LINE_BYTES.len())].add(1);
        block.line_bytes.add(bytes as u64);
    }

    /// Counts a request of an untrusted peer that has header lines of these groups, which are removed.
    pub(crate) fn forwarded_ignored(&self, groups: impl Iterator<Item = HeaderGroup>) {
        for group in groups {
            if let Some(count) = self.block.forwarded_ignored.get(group as usize) {
                count.add(1);
            }
        }
    }

    /// Counts a request for the decision record.
    pub(crate) fn probe(&self, outcome: ProbeOutcome) {
        if let Some(count) = self.block.probes.get(outcome as usize) {
            count.add(1);
        }
    }

    /// Counts a GET without an upgrade on the path of Streamlit's WebSocket.
    pub(crate) fn plain_get_on_stream(&self) {
        self.block.plain_gets_on_stream.add(1);
    }

    /// Sets the numbers of this worker's idle and busy connections to an upstream.
    pub(crate) fn pool(&self, upstream: Upstream, idle: usize, in_use: usize) {
        let [own_idle, own_in_use] = &self.block.pools[upstream as usize];
        own_idle.set(idle as u64);
        own_in_use.set(in_use as u64);
    }
}

/// The values of one worker, aligned so that no two workers write to the same pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Block {
    pub(super) dispatches: [DispatchBlock; Dispatch::ALL.len()],
    /// The last one is always zero: see [`trust_labels`].
    pub(super) trust: [Count; TrustOutcome::ALL.len() + 1],
    pub(super) upstream_errors: [Count; UPSTREAM_ERRORS.len()],
    pub(super) upstream_retries: Count,
    pub(super) prefixes_ignored: Count,
    pub(super) refused: Box<[Count]>,
    pub(super) connections_opened: Count,
    pub(super) connections_closed: Count,
    pub(super) websockets_opened: Count,
    pub(super) websockets_closed: Count,
    /// Handshakes that opened no WebSocket.
    pub(super) handshakes: [Count; HANDSHAKE_RESULTS.len()],
    /// By who closed it and by code.
    pub(super) closes: [[Count; CLOSE_CODES.len()]; ClosedBy::ALL.len()],
    pub(super) lifetimes: [Count; LIFETIMES.len() + 1],
    pub(super) lifetime_nanoseconds: Count,
    pub(super) lines: [Count; LINE_BYTES.len() + 1],
    pub(super) line_bytes: Count,
    pub(super) forwarded_ignored: [Count; HeaderGroup::ALL.len()],
    pub(super) plain_gets_on_stream: Count,
    pub(super) probes: [Count; ProbeOutcome::ALL.len()],
    /// Idle, in use.
    pub(super) pools: [[Count; 2]; Upstream::ALL.len()],
}

#[derive(Debug, Default)]
pub(super) struct DispatchBlock {
    pub(super) methods: [Count; METHODS.len()],
    pub(super) received_bytes: Count,
    pub(super) sent_bytes: Count,
    pub(super) buckets: [Count; BUCKETS.len() + 1],
    pub(super) nanoseconds: Count,
    /// By class of status, and by who ended them.
    pub(super) endings: [[Count; Side::ALL.len()]; STATUS_CLASSES.len()],
}

impl Block {
    pub(super) fn new() -> Self {
        Self {
            refused: refused_labels().map(|_| Count::default()).collect(),
            ..Self::default()
        }
    }

    /// Adds the values of another block.
    pub(super) fn add(&self, other: &Self) {
        for (sum, count) in self.counts().zip(other.counts()) {
            sum.add(count.get());
        }
    }

    /// Returns every value, in a fixed order.
    fn counts(&self) -> impl Iterator<Item = &Count> {
        let dispatches = self.dispatches.iter().flat_map(|of| {
            let single = [&of.received_bytes, &of.sent_bytes, &of.nanoseconds];
            let lists = of.methods.iter().chain(of.endings.as_flattened());
            lists.chain(&of.buckets).chain(single)
        });
        let single = [
            // Read the closed ones before the opened ones, so that a scrape never reports more closed than opened.
            &self.connections_closed,
            &self.websockets_closed,
            &self.connections_opened,
            &self.websockets_opened,
            &self.upstream_retries,
            &self.prefixes_ignored,
            &self.lifetime_nanoseconds,
            &self.line_bytes,
            &self.plain_gets_on_stream,
        ];
        let lists = self.trust.iter().chain(&self.upstream_errors);
        let lists = lists.chain(&self.refused).chain(self.pools.as_flattened());
        let websockets = self.handshakes.iter().chain(self.closes.as_flattened());
        let websockets = websockets.chain(&self.lifetimes).chain(&self.lines);
        let lists = lists
            .chain(websockets)
            .chain(&self.forwarded_ignored)
            .chain(&self.probes);
        dispatches.chain(lists).chain(single)
    }
}

/// A number that one thread writes and other threads read.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    fn add(&self, more: u64) {
        // Cheaper than `fetch_add`, and correct because there is no other writer.
        self.set(self.get().wrapping_add(more));
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Returns the place in [`HANDSHAKE_RESULTS`] of a handshake that opened no WebSocket.
fn handshake_result(ending: Ending) -> usize {
    let label = match ending {
        Ending::Rejected(_) => "rejected",
        Ending::Complete | Ending::ClosedByClient | Ending::ClosedByUpstream => "refused",
        Ending::UpstreamConnect | Ending::ConnectTimeout => "unreachable",
        Ending::UpstreamTimeout => "unanswered",
        Ending::UpstreamBroke => "broke",
        Ending::ClientLeft | Ending::ClientTimeout => "client_left",
        Ending::Drained => "drained",
    };
    let found = HANDSHAKE_RESULTS.iter().position(|known| *known == label);
    found.unwrap_or_default()
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
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
        // RFC 9110 §15: a client treats an invalid status as a 5xx.
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

/// Returns the labels of rejected requests. Nothing is counted as `other`; the series stays, for dashboards that have it.
pub(super) fn refused_labels() -> impl Iterator<Item = &'static str> {
    RejectReason::all()
        .map(RejectReason::label)
        .chain(["other"])
}

/// The upper bounds of the duration buckets, in milliseconds.
pub(super) const BUCKETS: [u64; 12] = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// The results of handshakes that open no WebSocket: rejected by the gateway; another response of the upstream; no connection
/// to it; no response in time; a broken one; the client left; the gateway stopped.
pub(super) const HANDSHAKE_RESULTS: [&str; 7] = [
    "rejected",
    "refused",
    "unreachable",
    "unanswered",
    "broke",
    "client_left",
    "drained",
];

/// The upper bounds of the lifetimes of WebSockets, in seconds: idle limits that are usual in proxies, load balancers and CDNs.
pub(super) const LIFETIMES: [u64; 6] = [15, 60, 100, 240, 300, 3600];

/// The upper bounds of the lengths of header lines, in bytes. Streamlit's own limit is 8190, and that of a Streamlit that the
/// gateway starts 65536; with three quarters of both.
pub(super) const LINE_BYTES: [u64; 8] = [1024, 2048, 4096, 6142, 8190, 16_384, 49_152, 65_536];

/// Returns the labels of the trust outcomes. Nothing is counted as `other`; the series stays, for dashboards that have it.
pub(super) fn trust_labels() -> impl Iterator<Item = &'static str> {
    TrustOutcome::ALL
        .iter()
        .map(|outcome| outcome.label())
        .chain(["other"])
}

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
    fn a_known_method_is_counted_by_name() {
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
    fn a_status_has_a_class() {
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
    fn a_bound_is_part_of_its_bucket() {
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
}
