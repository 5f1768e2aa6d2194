//! Which trace does a request belong to, and what is the upstream told of it?
//!
//! W3C Trace Context, level 2: the `traceparent` field. One that cannot be read says nothing, and then neither does
//! `tracestate`, which is carried along and never read. A gateway that records no spans is not part of the trace: it
//! passes the client's field on as it is.
//!
//! Whether to record is the sender's choice (the `sampled` flag). A trace that begins here is sampled, because the app
//! behind would otherwise take our word for it and record nothing.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) trace_id: TraceId,
    /// The span that caused this one, if it was another's.
    pub(crate) parent_id: Option<SpanId>,
    pub(crate) span_id: SpanId,
    /// Whether the sender may have recorded its span.
    pub(crate) sampled: bool,
    /// Whether the trace's id was drawn at random, which samplers further on rely on.
    pub(crate) random: bool,
}

/// Names a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId(NonZeroU128);

/// Names a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanId(NonZeroU64);

/// What becomes of the client's `traceparent` and `tracestate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// Both are passed on as they came.
    Unchanged,
    /// Both are removed.
    Removed,
    /// `traceparent` is [`Trace::traceparent`]; `tracestate` stays.
    Replaced,
    /// `traceparent` is [`Trace::traceparent`]; `tracestate` is removed.
    Started,
}

impl Trace {
    /// Reads the lines of `traceparent`: exactly one, and strictly. The span is the sender's.
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
        // A version to come may add parts at the end; the one that is known has none.
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

    /// A trace that begins here. `random` is asked for as many numbers as it takes.
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

    /// A span of ours that this one caused.
    pub(crate) fn child(&self, mut random: impl FnMut() -> u64) -> Self {
        Self {
            parent_id: Some(self.span_id),
            span_id: SpanId(nonzero(&mut random)),
            ..*self
        }
    }

    /// Finds the trace of a request from its lines of `traceparent`, and what the upstream is told.
    ///
    /// `logs`: whether the trace's id is written anywhere. `records`: whether spans are exported.
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

    /// The value of `traceparent` that names this span.
    pub(crate) fn traceparent(&self) -> String {
        let flags = if self.sampled { SAMPLED } else { 0 } | if self.random { RANDOM } else { 0 };
        format!("00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Reads exactly this many hex digits, of lower case as the specification demands.
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
    // A source that gives nothing but zeros would be waited for in vain.
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
    fn only_one_strict_line_is_read() {
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
            // Flags that are not defined yet mean nothing.
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fc",
                false,
                false,
            ),
            // A version to come.
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
    fn the_upstream_is_told_of_a_span_of_ours_only_if_there_is_one() {
        let started = "00-00000000000000010000000000000002-0000000000000003-03";
        let child = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01";
        // The client's line, logs, records; the trace, and what becomes of the line.
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
    fn a_child_names_its_parent_and_keeps_the_sender_s_choice() {
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
        fn what_is_written_reads_the_same(high: u64, low: u64, span: u64, sampled: bool) {
            let mut draws = [high, low, span].into_iter().cycle();
            let trace = Trace { sampled, ..Trace::start(|| draws.next().unwrap_or(1)) };
            let value = trace.traceparent();
            prop_assert_eq!(value.len(), 55);
            prop_assert_eq!(read(&[&value]), Some(trace));
        }

        #[test]
        fn no_line_is_too_strange(line: Vec<u8>) {
            if let Some(trace) = Trace::read([line.as_slice()].into_iter()) {
                // What differs is a version to come, or flags that are not known.
                let value = trace.traceparent();
                prop_assert_eq!(&value.as_bytes()[2..53], &line[2..53]);
            }
        }

        #[test]
        fn one_octet_that_is_changed_is_seen(place in 0..55_usize, octet: u8) {
            let mut line = SENT.as_bytes().to_vec();
            line[place] = octet;
            let is_digit = matches!(octet, b'0'..=b'9' | b'a'..=b'f');
            let is_dash = [2, 35, 52].contains(&place);
            let read = Trace::read([line.as_slice()].into_iter());
            prop_assert_eq!(read.is_some(), if is_dash { octet == b'-' } else { is_digit });
        }
    }
}
