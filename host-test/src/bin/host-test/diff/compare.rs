//! In what do two hosts differ in what came of a case?

use std::collections::{BTreeMap, BTreeSet};

use host_test::HeaderMap;
use host_test::case_file::{CaseResult, Ending, LogExpectation, log_mismatches};
use host_test::chain::ChainOutcome;
use host_test::event::{LogLine, Message};
use host_test::vm::{CallKind, Metric, MetricKind};

use super::envoy::{Metrics, Played, Seen};
use super::plan::{Plan, Service, call_outs};
use super::script::{Reaction, grpc_messages};

/// Says in what an exchange differs, one readable line a difference: here, then in Envoy.
///
/// `called`: how often each service has been called before, counted on.
pub(super) fn differences(
    plan: &Plan<'_>,
    here: &ChainOutcome,
    there: &Seen,
    called: &mut BTreeMap<String, usize>,
) -> Vec<String> {
    let mut differences = Vec::new();
    let is_paused = here.filters.iter().any(|filter| !filter.paused.is_empty());
    let was_given_up = there
        .details
        .as_deref()
        .is_some_and(|details| GIVEN_UP.contains(&details));
    if is_paused != was_given_up {
        let word = |paused: bool| {
            if paused {
                "left paused"
            } else {
                "not left paused"
            }
        };
        differences.push(format!(
            "the stream: {} / {}",
            word(is_paused),
            word(was_given_up)
        ));
    }
    // Whether anything of a request that is cut off reaches the upstream depends on how fast its connection is.
    let is_cut_off = here
        .upstream
        .as_ref()
        .is_some_and(|message| !message.is_complete);
    if !(is_cut_off && there.upstream.is_none()) {
        messages(
            "upstream",
            here.upstream.as_ref(),
            there.upstream.as_ref(),
            &mut differences,
        );
    }
    // What Envoy says when it gives a paused stream up is not the filter's.
    let downstream = there.downstream.as_ref().filter(|_| !was_given_up);
    // What has gone out just before a reset may still be in a buffer that is thrown away.
    let is_reset = here.filters.iter().any(|filter| filter.is_reset);
    if !(is_reset && downstream.is_none()) {
        messages(
            "downstream",
            here.downstream.as_ref(),
            downstream,
            &mut differences,
        );
    }
    let replied = here
        .filters
        .iter()
        .find_map(|filter| filter.local_reply.as_ref());
    if let (Some(reply), Some(details)) = (replied, &there.details)
        && !was_given_up
        && !reply.details.is_empty()
        && reply.details != *details
    {
        differences.push(format!("reply details: {:?} / {details:?}", reply.details));
    }
    let state = here.filters.first().map(|filter| &filter.filter_state);
    for (key, there) in &there.filter_state {
        let here = state.and_then(|state| state.get(key.as_bytes()));
        let here = here.map_or("-".into(), |value| String::from_utf8_lossy(value));
        if here != *there {
            differences.push(format!("filter state `{key}`: {here} / {there}"));
        }
    }
    for service in &plan.services {
        calls(
            service,
            here,
            there,
            called.entry(service.name.clone()).or_default(),
            &mut differences,
        );
    }
    differences
}

/// Says which of the log lines that a case expects are in one log only.
pub(super) fn log_differences(plan: &Plan<'_>, ran: &CaseResult, there: &Played) -> Vec<String> {
    let Ending::Served(outcomes) = &ran.ending else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for ((exchange, here), there) in plan.exchanges.iter().zip(outcomes).zip(&there.exchanges) {
        let filters = here.filters.iter();
        let logs: Vec<LogLine> = filters.flat_map(|filter| filter.logs.clone()).collect();
        found.extend(one_sided(&exchange.logs, &logs, &there.logs));
    }
    // Envoy does not tell what a plugin logs by itself from what it logs in a stream.
    let finally = plan.case.finally.logs.iter();
    let wanted: Vec<LogExpectation> = finally.filter(|want| !want.absent).cloned().collect();
    found.extend(one_sided(&wanted, &ran.logs, &there.logs));
    found
}

fn one_sided(want: &[LogExpectation], here: &[LogLine], there: &[LogLine]) -> Vec<String> {
    let (here, there) = (
        log_mismatches("log", want, here),
        log_mismatches("log", want, there),
    );
    if here.is_empty() == there.is_empty() {
        return Vec::new();
    }
    let word = |misses: &[String]| match misses {
        [] => "as expected".to_owned(),
        misses => misses.join("; "),
    };
    vec![format!("{} / {}", word(&here), word(&there))]
}

/// Says in which counters and gauges two hosts differ.
///
/// Envoy starts a plugin several times and keeps its metrics from case to case, so that it is the change that counts, or
/// the level of a gauge that is set. With ticks, what is counted depends on the time that passes.
pub(super) fn metric_differences(ran: &CaseResult, there: &Played) -> Vec<String> {
    if ran.has_ticks {
        return Vec::new();
    }
    let names = ran
        .metrics
        .iter()
        .filter(|(_, metric)| metric.kind != MetricKind::Histogram)
        .map(|(name, _)| name);
    let names: BTreeSet<&String> = names.chain(there.metrics.keys()).collect();
    let is_histogram = |name: &String| {
        let metric = ran.metrics.get(name);
        metric.is_some_and(|metric| metric.kind == MetricKind::Histogram)
    };
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| !is_histogram(name)) {
        let value = |metrics: &BTreeMap<String, Metric>| metrics.get(name).map_or(0, |it| it.value);
        let here = [value(&ran.metrics_at_start), value(&ran.metrics)];
        let value = |metrics: &Metrics| metrics.get(name).copied().unwrap_or_default();
        let there = [value(&there.metrics_at_start), value(&there.metrics)];
        let changes = [here, there].map(|[start, end]| i128::from(end) - i128::from(start));
        let is_gauge = ran
            .metrics
            .get(name)
            .is_some_and(|metric| metric.kind == MetricKind::Gauge);
        let is_same_level = is_gauge && here.last() == there.last();
        if changes[0] != changes[1] && !is_same_level {
            found.push(format!(
                "metric `{name}`: {:+} / {:+}",
                changes[0], changes[1]
            ));
        }
    }
    found
}

fn calls(
    service: &Service,
    here: &ChainOutcome,
    there: &Seen,
    called: &mut usize,
    differences: &mut Vec<String>,
) {
    let name = &service.name;
    let made: Vec<_> = call_outs(here)
        .filter(|call| call.cluster == *name)
        .collect();
    let first = *called;
    *called += made.len();
    let refused = service
        .script
        .iter()
        .position(Reaction::is_refusal)
        .unwrap_or(usize::MAX);
    // Nobody sees a call that is refused.
    let arriving = made.iter().take(refused.saturating_sub(first));
    let here: Vec<Message> = arriving
        .map(|call| Message {
            headers: call.headers.clone(),
            body: call.body.clone(),
            trailers: call.trailers.clone(),
            // A gRPC stream that stays open is not over when the exchange is.
            is_complete: true,
        })
        .collect();
    let is_grpc = made.iter().any(|call| call.kind != CallKind::Http);
    let received = there
        .calls
        .iter()
        .filter(|(other, _)| other == name)
        .flat_map(|(_, messages)| messages);
    let there: Vec<Message> = received
        .map(|call| Message {
            headers: call.headers.clone(),
            body: if is_grpc {
                grpc_messages(&call.body)
            } else {
                call.body.clone()
            },
            trailers: call.trailers.clone(),
            is_complete: true,
        })
        .collect();
    if here.len() != there.len() {
        differences.push(format!(
            "calls to `{name}`: {} / {}",
            here.len(),
            there.len()
        ));
    }
    for (number, (mut here, mut there)) in here.into_iter().zip(there).enumerate() {
        let what = format!("call {} to `{name}`", first + number + 1);
        if let Some(call) = made.get(number)
            && let CallKind::GrpcCall { service, method } | CallKind::GrpcStream { service, method } =
                &call.kind
        {
            here.headers
                .add(b":path", format!("/{service}/{method}").as_bytes());
            // The rest of the head is gRPC's own.
            for name in [":method", ":authority", "content-type", "grpc-timeout"] {
                there.headers.remove(name.as_bytes());
            }
        }
        for name in CALL_TRANSPORT {
            here.headers.remove(name.as_bytes());
            there.headers.remove(name.as_bytes());
        }
        messages(&what, Some(&here), Some(&there), differences);
    }
}

fn messages(
    side: &str,
    here: Option<&Message>,
    there: Option<&Message>,
    differences: &mut Vec<String>,
) {
    match (here, there) {
        (None, None) => {}
        (Some(here), Some(there)) => message(side, here, there, differences),
        (Some(_), None) => differences.push(format!("{side}: a message / none")),
        (None, Some(_)) => differences.push(format!("{side}: none / a message")),
    }
}

fn message(side: &str, here: &Message, there: &Message, differences: &mut Vec<String>) {
    lines(side, &here.headers, &there.headers, differences);
    if here.body != there.body {
        differences.push(format!(
            "{side} body: \"{}\" / \"{}\"",
            here.body.escape_ascii(),
            there.body.escape_ascii()
        ));
    }
    lines(
        &format!("{side} trailer"),
        &here.trailers,
        &there.trailers,
        differences,
    );
    if here.is_complete != there.is_complete {
        let word = |complete: bool| if complete { "complete" } else { "cut off" };
        differences.push(format!(
            "{side}: {} / {}",
            word(here.is_complete),
            word(there.is_complete)
        ));
    }
}

/// Compares the lines of each field, in their order.
fn lines(side: &str, here: &HeaderMap, there: &HeaderMap, differences: &mut Vec<String>) {
    let names: BTreeSet<String> = [here, there]
        .into_iter()
        .flat_map(HeaderMap::iter)
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .filter(|name| !TRANSPORT.contains(&name.as_str()))
        .collect();
    for name in names {
        let lines = |map: &HeaderMap| -> Vec<String> {
            let lines = map.get_all(&name).into_iter();
            lines
                .map(|value| value.escape_ascii().to_string())
                .collect()
        };
        let (here, there) = (lines(here), lines(there));
        if here != there {
            differences.push(format!("{side} `{name}`: {here:?} / {there:?}"));
        }
    }
}

/// Fields that belong to one hop's transport, or that Envoy adds to every message. The scheme is not on the wire.
const TRANSPORT: [&str; 11] = [
    ":scheme",
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "x-envoy-upstream-service-time",
    "x-forwarded-proto",
];

/// Fields that Envoy adds to a call of a filter's.
const CALL_TRANSPORT: [&str; 3] = [
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-internal",
    "x-forwarded-for",
];

/// Envoy's words for a stream on which nothing happened for too long.
const GIVEN_UP: [&str; 2] = ["stream_idle_timeout", "response_timeout"];
