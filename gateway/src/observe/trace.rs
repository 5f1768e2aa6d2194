//! Reads the trace of a request, and decides how it is propagated to the upstream.
//!
//! The trace is in the `traceparent` field of W3C Trace Context, level 2. An invalid one is removed together with
//! `tracestate`, which is forwarded and never read. A gateway that exports no spans is not part of the trace, and forwards the
//! client's field unchanged.
//!
//! The sender chooses whether a trace is recorded (the `sampled` flag). A trace that starts here is sampled, because
//! otherwise the app would follow the flag and record nothing.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

/// A span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) trace_id: TraceId,
    /// The sender's span, if this one is ours and the sender had one.
    pub(crate) parent_id: Option<SpanId>,
    pub(crate) span_id: SpanId,
    /// The `sampled` flag.
    pub(crate) sampled: bool,
    /// The `random` flag: the trace id is random, on which later samplers rely.
    pub(crate) random: bool,
}

/// The id of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId(NonZeroU128);

/// The id of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanId(NonZeroU64);

/// The treatment of the client's `traceparent` and `tracestate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// Both are forwarded unchanged.
    Unchanged,
    /// Both are removed.
    Removed,
    /// `traceparent` is [`Trace::traceparent`]; `tracestate` stays.
    Replaced,
    /// `traceparent` is [`Trace::traceparent`]; `tracestate` is removed.
    Started,
}

impl Trace {
    /// Reads the `traceparent` lines, of which there must be exactly one. The span is the sender's.
    pub(crate) fn read<'l>(mut lines: impl Iterator<Item = &'l [u8]>) -> Option<Self> {
        let line = lines.next()?;
        if lines.next().is_some() {
            return None;
        }
        let mut parts = line.splitn(5, |octet| *octet == b'-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        // Later versions may add parts at the end; version 0 has none.
        let is_readable = match version {
            0 => parts.next().is_none(),
            0xff => false,
            _ => true,
        };
        if !is_readable {
            return None;
        }
        Some(Self {
            trace_id: TraceId(NonZeroU128::new(trace_id)?),
            parent_id: None,
            span_id: SpanId(u64::try_from(span_id).ok().and_then(NonZeroU64::new)?),
            sampled: flags & SAMPLED != 0,
            random: flags & RANDOM != 0,
        })
    }

    /// Starts a trace with ids from `random`.
    pub(crate) fn start(mut random: impl FnMut() -> u64) -> Self {
        let (high, low) = (random(), nonzero(&mut random));
        Self {
            trace_id: TraceId(NonZeroU128::from(low) | u128::from(high) << 64),
            parent_id: None,
            span_id: SpanId(nonzero(&mut random)),
            sampled: true,
            random: true,
        }
    }

    /// Returns a span of ours, whose parent is this one.
    pub(crate) fn child(&self, mut random: impl FnMut() -> u64) -> Self {
        Self {
            parent_id: Some(self.span_id),
            span_id: SpanId(nonzero(&mut random)),
            ..*self
        }
    }

    /// Returns the trace of a request from its `traceparent` lines, and how it is propagated to the upstream.
    ///
    /// `logs`: true if trace ids are logged. `records`: true if spans are exported.
    pub(crate) fn of<'l>(
        lines: impl Iterator<Item = &'l [u8]>,
        logs: bool,
        records: bool,
        random: impl FnMut() -> u64,
    ) -> (Option<Self>, Propagation) {
        match Self::read(lines) {
            Some(trace) if records => (Some(trace.child(random)), Propagation::Replaced),
            Some(trace) => (Some(trace), Propagation::Unchanged),
            None if records || logs => (Some(Self::start(random)), Propagation::Started),
            None => (None, Propagation::Removed),
        }
    }

    /// Returns the `traceparent` value of this span.
    pub(crate) fn traceparent(&self) -> String {
        let flags = match (self.sampled, self.random) {
            (false, false) => "00",
            (true, false) => "01",
            (false, true) => "02",
            (true, true) => "03",
        };
        let (trace_id, span_id) = (self.trace_id.digits(), self.span_id.digits());
        let (trace_id, span_id) = (trace_id.as_str(), span_id.as_str());
        ["00-", trace_id, "-", span_id, "-", flags].concat()
    }
}

impl TraceId {
    /// Returns the id in hex digits.
    pub(crate) fn digits(self) -> Digits<32> {
        Digits::of(self.0.get())
    }
}

impl SpanId {
    /// Returns the id in hex digits.
    pub(crate) fn digits(self) -> Digits<16> {
        Digits::of(self.0.get().into())
    }
}

/// A number as `N` hex digits. The formatter of the standard library takes ten times as long, and this runs for each request
/// that is logged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digits<const N: usize>([u8; N]);

impl<const N: usize> Digits<N> {
    fn of(mut number: u128) -> Self {
        let mut digits = [b'0'; N];
        for digit in digits.iter_mut().rev() {
            let [lowest, ..] = number.to_le_bytes();
            *digit = match lowest & 0xf {
                value @ 0..=9 => b'0' + value,
                value => b'a' + value - 10,
            };
            number >>= 4;
        }
        Self(digits)
    }

    pub(crate) fn as_str(&self) -> &str {
        // Always valid: digits are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits().as_str())
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits().as_str())
    }
}

/// Reads exactly this many hex digits; the specification allows lower case only.
fn hex(text: &[u8], digits: usize) -> Option<u128> {
    if text.len() != digits {
        return None;
    }
    text.iter().try_fold(0, |number, octet| {
        let digit = match octet {
            b'0'..=b'9' => octet - b'0',
            b'a'..=b'f' => octet - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

fn nonzero(random: &mut impl FnMut() -> u64) -> NonZeroU64 {
    // This is not a loop, because a loop would not end with a source that returns only zeros.
    NonZeroU64::new(random()).unwrap_or(NonZeroU64::MIN)
}

const SAMPLED: u128 = 1;
const RANDOM: u128 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str]) -> Option<Trace> {
        Trace::read(lines.iter().map(|line| line.as_bytes()))
    }

    fn numbers() -> impl FnMut() -> u64 {
        let mut last = 0;
        move || {
            last += 1;
            last
        }
    }

    const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn exactly_one_valid_line_is_read() {
        let accepted = [
            (SENT, true, false),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                false,
                false,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
                true,
                true,
            ),
            // Undefined flags are ignored.
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fc",
                false,
                false,
            ),
            // A later version.
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                true,
                false,
            ),
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-ever",
                true,
                false,
            ),
        ];
        for (line, sampled, random) in accepted {
            let trace = read(&[line]).expect(line);
            assert_eq!(
                trace.trace_id.to_string(),
                "4bf92f3577b34da6a3ce929d0e0e4736"
            );
            assert_eq!(trace.span_id.to_string(), "00f067aa0ba902b7");
            assert_eq!(
                (trace.parent_id, trace.sampled, trace.random),
                (None, sampled, random)
            );
        }
        let refused: [&[&str]; 18] = [
            &[],
            &[""],
            &[SENT, SENT],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"],
            &["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x"],
            &["00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e47361-00f067aa0ba902b7-01"],
            &["00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01"],
            &[" 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01,"],
        ];
        for lines in refused {
            assert_eq!(read(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn the_upstream_receives_our_span_only_if_there_is_one() {
        let started = "00-00000000000000010000000000000002-0000000000000003-03";
        let child = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01";
        // The client's line, logs, records; the trace, and the treatment of the line.
        let table = [
            (SENT, false, false, Some(SENT), Propagation::Unchanged),
            (SENT, true, false, Some(SENT), Propagation::Unchanged),
            (SENT, false, true, Some(child), Propagation::Replaced),
            ("none", false, false, None, Propagation::Removed),
            ("none", true, false, Some(started), Propagation::Started),
            ("none", false, true, Some(started), Propagation::Started),
        ];
        for (line, logs, records, expected, propagation) in table {
            let lines = [line.as_bytes()].into_iter();
            let (trace, what) = Trace::of(lines, logs, records, numbers());
            let value = trace.map(|trace| trace.traceparent());
            assert_eq!((value.as_deref(), what), (expected, propagation));
        }
    }

    #[test]
    fn a_child_has_its_parent_s_id_and_flags() {
        let parent =
            read(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02"]).expect("valid");
        let child = parent.child(numbers());
        assert_eq!(child.parent_id, Some(parent.span_id));
        assert_eq!(
            child.traceparent(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-02"
        );
        assert!(!child.sampled);
    }

    proptest! {
        #[test]
        fn a_written_value_reads_the_same(high: u64, low: u64, span: u64, sampled: bool) {
            let mut draws = [high, low, span].into_iter().cycle();
            let trace = Trace { sampled, ..Trace::start(|| draws.next().unwrap_or(1)) };
            let value = trace.traceparent();
            prop_assert_eq!(value.len(), 55);
            prop_assert_eq!(read(&[&value]), Some(trace));
        }

        #[test]
        fn any_line_can_be_read(line: Vec<u8>) {
            if let Some(trace) = Trace::read([line.as_slice()].into_iter()) {
                // Only the version and undefined flags may differ.
                let value = trace.traceparent();
                prop_assert_eq!(&value.as_bytes()[2..53], &line[2..53]);
            }
        }

        #[test]
        fn one_invalid_octet_makes_a_line_invalid(place in 0..55_usize, octet: u8) {
            let mut line = SENT.as_bytes().to_vec();
            line[place] = octet;
            let is_digit = matches!(octet, b'0'..=b'9' | b'a'..=b'f');
            let is_dash = [2, 35, 52].contains(&place);
            let read = Trace::read([line.as_slice()].into_iter());
            prop_assert_eq!(read.is_some(), if is_dash { octet == b'-' } else { is_digit });
        }
    }
}
