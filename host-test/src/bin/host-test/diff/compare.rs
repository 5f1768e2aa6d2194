//! Compares the result of a case in the test host with its result in Envoy.

use std::collections::{BTreeMap, BTreeSet};

use fluxlit_support::script::{ScriptedResponse, grpc_messages};
use host_test::HeaderMap;
use host_test::case_file::{CaseResult, Ending, LogExpectation, log_mismatches};
use host_test::chain::ChainOutcome;
use host_test::event::{LogLine, Message};
use host_test::vm::{CallKind, Metric, MetricKind};

use super::observed::{EnvoyRun, Metrics, Observed};
use super::plan::{Plan, Service, call_outs};

/// Returns the differences of an exchange, one readable line each: the test host's value, then Envoy's.
///
/// `called`: how often each service has been called so far; it is updated.
pub(super) fn differences(
    plan: &Plan<'_>,
    ours: &ChainOutcome,
    envoy: &Observed,
    called: &mut BTreeMap<String, usize>,
) -> Vec<String> {
    let mut differences = Vec::new();
    let is_paused = ours.filters.iter().any(|filter| !filter.paused.is_empty());
    let timed_out = envoy
        .details
        .as_deref()
        .is_some_and(|details| TIMED_OUT.contains(&details));
    if is_paused != timed_out {
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
            word(timed_out)
        ));
    }
    // It depends on timing whether a part of a request that is cut off reaches the upstream.
    let is_cut_off = ours
        .upstream
        .as_ref()
        .is_some_and(|message| !message.is_complete);
    if !(is_cut_off && envoy.upstream.is_none()) {
        messages(
            "upstream",
            ours.upstream.as_ref(),
            envoy.upstream.as_ref(),
            &mut differences,
        );
    }
    // The response with which Envoy ends a paused stream is not the filter's. If the filter has already forwarded a part, Envoy
    // ends it there, even if the client has received as many bytes as the length says.
    let downstream = match &envoy.downstream {
        Some(_) if timed_out && ours.downstream.is_none() => None,
        Some(message) => Some(Message {
            is_complete: message.is_complete && !timed_out,
            ..message.clone()
        }),
        None => None,
    };
    let downstream = downstream.as_ref();
    // Data sent just before a reset may still be in a buffer that Envoy discards.
    let is_reset = ours.filters.iter().any(|filter| filter.is_reset);
    if !(is_reset && downstream.is_none()) {
        messages(
            "downstream",
            ours.downstream.as_ref(),
            downstream,
            &mut differences,
        );
    }
    let replied = ours
        .filters
        .iter()
        .find_map(|filter| filter.local_reply.as_ref());
    if let (Some(reply), Some(details)) = (replied, &envoy.details)
        && !timed_out
        && !reply.details.is_empty()
        && reply.details != *details
    {
        differences.push(format!("reply details: {:?} / {details:?}", reply.details));
    }
    let state = ours.filters.first().map(|filter| &filter.filter_state);
    for (key, envoy) in &envoy.filter_state {
        let ours = state.and_then(|state| state.get(key.as_bytes()));
        let ours = ours.map_or("-".into(), |value| String::from_utf8_lossy(value));
        if ours != *envoy {
            differences.push(format!("filter state `{key}`: {ours} / {envoy}"));
        }
    }
    for service in &plan.services {
        calls(
            service,
            ours,
            envoy,
            called.entry(service.name.clone()).or_default(),
            &mut differences,
        );
    }
    differences
}

/// Returns the exchanges of a case with `held_ms` that Envoy ended in less than half the time that the filter held them here.
///
/// How much later they end depends on the machine. They may also end a little sooner: Envoy's timers count from the start of
/// an event loop's iteration, not from the call that sets them. With ticks, the time until the next one is not known.
pub(super) fn held_differences(plan: &Plan<'_>, ran: &CaseResult, envoy: &EnvoyRun) -> Vec<String> {
    if ran.has_ticks {
        return Vec::new();
    }
    plan.exchanges
        .iter()
        .zip(&ran.held_ms)
        .zip(&envoy.exchanges)
        .filter(|((exchange, held), envoy)| {
            exchange.held_ms.is_some() && envoy.elapsed.as_millis() < u128::from(**held) / 2
        })
        .map(|((_, held), envoy)| {
            let most = envoy.elapsed.as_millis();
            format!("held: {held} ms / at most {most} ms")
        })
        .collect()
}

/// Returns the log lines that a case expects and that only one of the logs contains.
pub(super) fn log_differences(plan: &Plan<'_>, ran: &CaseResult, envoy: &EnvoyRun) -> Vec<String> {
    let Ending::Served(outcomes) = &ran.ending else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for ((exchange, ours), envoy) in plan.exchanges.iter().zip(outcomes).zip(&envoy.exchanges) {
        let filters = ours.filters.iter();
        let logs: Vec<LogLine> = filters.flat_map(|filter| filter.logs.clone()).collect();
        found.extend(one_sided(&exchange.logs, &logs, &envoy.logs));
    }
    // Envoy's log does not distinguish lines of a plugin's own context from lines of its streams.
    let finally = plan.case.finally.logs.iter();
    let wanted: Vec<LogExpectation> = finally.filter(|want| !want.absent).cloned().collect();
    found.extend(one_sided(&wanted, &ran.logs, &envoy.logs));
    found
}

fn one_sided(want: &[LogExpectation], ours: &[LogLine], envoy: &[LogLine]) -> Vec<String> {
    let (ours, envoy) = (
        log_mismatches("log", want, ours),
        log_mismatches("log", want, envoy),
    );
    if ours.is_empty() == envoy.is_empty() {
        return Vec::new();
    }
    let word = |mismatches: &[String]| match mismatches {
        [] => "as expected".to_owned(),
        mismatches => mismatches.join("; "),
    };
    vec![format!("{} / {}", word(&ours), word(&envoy))]
}

/// Returns the counters and gauges that differ.
///
/// Envoy starts a plugin several times and keeps its metrics from case to case, so the changes are compared, or the level
/// of a gauge that is set. With ticks, counts depend on the time that passes, so nothing is compared.
pub(super) fn metric_differences(ran: &CaseResult, envoy: &EnvoyRun) -> Vec<String> {
    if ran.has_ticks {
        return Vec::new();
    }
    let names = ran
        .metrics
        .iter()
        .filter(|(_, metric)| metric.kind != MetricKind::Histogram)
        .map(|(name, _)| name);
    let names: BTreeSet<&String> = names.chain(envoy.metrics.keys()).collect();
    let is_histogram = |name: &String| {
        let metric = ran.metrics.get(name);
        metric.is_some_and(|metric| metric.kind == MetricKind::Histogram)
    };
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| !is_histogram(name)) {
        let value = |metrics: &BTreeMap<String, Metric>| metrics.get(name).map_or(0, |it| it.value);
        let ours = [value(&ran.metrics_at_start), value(&ran.metrics)];
        let value = |metrics: &Metrics| metrics.get(name).copied().unwrap_or_default();
        let envoy = [value(&envoy.metrics_at_start), value(&envoy.metrics)];
        let changes = [ours, envoy].map(|[start, end]| i128::from(end) - i128::from(start));
        let is_gauge = ran
            .metrics
            .get(name)
            .is_some_and(|metric| metric.kind == MetricKind::Gauge);
        let is_same_level = is_gauge && ours.last() == envoy.last();
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
    ours: &ChainOutcome,
    envoy: &Observed,
    called: &mut usize,
    differences: &mut Vec<String>,
) {
    let name = &service.name;
    let made: Vec<_> = call_outs(ours)
        .filter(|call| call.cluster == *name)
        .collect();
    let first = *called;
    *called += made.len();
    let refused = service
        .script
        .iter()
        .position(ScriptedResponse::is_refusal)
        .unwrap_or(usize::MAX);
    // A call whose connection is refused reaches no service.
    let arriving = made.iter().take(refused.saturating_sub(first));
    let ours: Vec<Message> = arriving
        .map(|call| Message {
            headers: call.headers.clone(),
            body: call.body.clone(),
            trailers: call.trailers.clone(),
            // A gRPC stream may stay open after the exchange.
            is_complete: true,
        })
        .collect();
    let is_grpc = made.iter().any(|call| call.kind != CallKind::Http);
    let received = envoy
        .calls
        .iter()
        .filter(|(other, _)| other == name)
        .flat_map(|(_, messages)| messages);
    let envoy: Vec<Message> = received
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
    if ours.len() != envoy.len() {
        differences.push(format!(
            "calls to `{name}`: {} / {}",
            ours.len(),
            envoy.len()
        ));
    }
    for (number, (mut ours, mut envoy)) in ours.into_iter().zip(envoy).enumerate() {
        let what = format!("call {} to `{name}`", first + number + 1);
        if let Some(call) = made.get(number)
            && let CallKind::GrpcCall { service, method } | CallKind::GrpcStream { service, method } =
                &call.kind
        {
            ours.headers
                .add(b":path", format!("/{service}/{method}").as_bytes());
            // Envoy's gRPC client writes the rest of the head.
            for name in [":method", ":authority", "content-type", "grpc-timeout"] {
                envoy.headers.remove(name.as_bytes());
            }
        }
        for name in CALL_TRANSPORT {
            ours.headers.remove(name.as_bytes());
            envoy.headers.remove(name.as_bytes());
        }
        messages(&what, Some(&ours), Some(&envoy), differences);
    }
}

fn messages(
    side: &str,
    ours: Option<&Message>,
    envoy: Option<&Message>,
    differences: &mut Vec<String>,
) {
    match (ours, envoy) {
        (None, None) => {}
        (Some(ours), Some(envoy)) => message(side, ours, envoy, differences),
        (Some(_), None) => differences.push(format!("{side}: a message / none")),
        (None, Some(_)) => differences.push(format!("{side}: none / a message")),
    }
}

fn message(side: &str, ours: &Message, envoy: &Message, differences: &mut Vec<String>) {
    lines(side, &ours.headers, &envoy.headers, differences);
    if ours.body != envoy.body {
        differences.push(format!(
            "{side} body: \"{}\" / \"{}\"",
            ours.body.escape_ascii(),
            envoy.body.escape_ascii()
        ));
    }
    lines(
        &format!("{side} trailer"),
        &ours.trailers,
        &envoy.trailers,
        differences,
    );
    if ours.is_complete != envoy.is_complete {
        let word = |complete: bool| if complete { "complete" } else { "cut off" };
        differences.push(format!(
            "{side}: {} / {}",
            word(ours.is_complete),
            word(envoy.is_complete)
        ));
    }
}

/// Compares the lines of each field, in their order.
fn lines(side: &str, ours: &HeaderMap, envoy: &HeaderMap, differences: &mut Vec<String>) {
    let names: BTreeSet<String> = [ours, envoy]
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
        let (ours, envoy) = (lines(ours), lines(envoy));
        if ours != envoy {
            differences.push(format!("{side} `{name}`: {ours:?} / {envoy:?}"));
        }
    }
}

/// Fields that belong to the transport of one hop, or that Envoy adds to every message. The scheme is not on the wire.
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

/// Fields that Envoy adds to a filter's call.
const CALL_TRANSPORT: [&str; 3] = [
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-internal",
    "x-forwarded-for",
];

/// Envoy's response code details of a stream that was idle for too long.
const TIMED_OUT: [&str; 2] = ["stream_idle_timeout", "response_timeout"];
