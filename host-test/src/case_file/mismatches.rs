//! Compares the result of a case with what the case expects.
//!
//! A mismatch is one readable line: what is compared, what the case wants, and the actual value. If a filter trapped, left a
//! message paused or reset the stream unexpectedly, only that is reported, because nothing else could match.

use fluxlit_cases::{
    CallExpectation, Case, Connection, DownstreamExpectation, Exchange, LogExpectation,
    MetricExpectation, Queue, ReplyExpectation, latin1, line_mismatches, matches_whole,
};

use super::convert;
use super::result::{CaseResult, Ending, forwarded, short_name};
use crate::chain::ChainOutcome;
use crate::event::{LogLine, Side};
use crate::vm::call_out::CallOut;
use crate::vm::outcome::Outcome;

impl CaseResult {
    /// Returns the mismatches with `case`, and with its recording if it has one; empty if the result is as expected.
    pub fn mismatches(&self, case: &Case) -> Vec<String> {
        let mut mismatches = Vec::new();
        match &self.ending {
            Ending::Refused(message) => {
                let refused = fluxlit_cases::Outcome::Refused(message.clone());
                mismatches.extend(refused.mismatches(case));
            }
            Ending::Served(_) if !case.refused.is_empty() => {
                let served = fluxlit_cases::Outcome::Served(Vec::new());
                mismatches.extend(served.mismatches(case));
            }
            Ending::Served(outcomes) => {
                let exchanges = expected_exchanges(case);
                let found = exchanges.iter().zip(outcomes).zip(&self.held_ms).map(
                    |((exchange, outcome), held)| exchange_mismatches(exchange, outcome, *held),
                );
                numbered("exchange", exchanges.len(), found, &mut mismatches);
                let found = case
                    .connections
                    .iter()
                    .zip(&self.connections)
                    .map(|(connection, outcome)| connection_mismatches(connection, outcome));
                numbered("connection", case.connections.len(), found, &mut mismatches);
            }
        }
        self.final_mismatches(case, &mut mismatches);
        if let Some(golden) = &case.golden {
            let mut found = self.mismatches(golden);
            let (own, recorded) = (case.exchanges().len(), golden.exchanges().len());
            if own != recorded {
                found.push(format!(
                    "it has {recorded} exchanges, and the case has {own}; record it again"
                ));
            }
            mismatches.extend(
                found
                    .into_iter()
                    .map(|mismatch| format!("recording: {mismatch}")),
            );
        }
        mismatches
    }

    fn final_mismatches(&self, case: &Case, mismatches: &mut Vec<String>) {
        for (name, want) in &case.finally.metrics {
            let got = self.metrics.get(name);
            let (kind, value) = match want {
                MetricExpectation::Value(value) => (None, *value),
                MetricExpectation::Typed { kind, value } => (Some(*kind), *value),
            };
            let got_kind = got.map(|metric| convert::metric_kind(metric.kind));
            if got.map(|metric| metric.value) != Some(value) {
                let got = got.map_or_else(|| "none".to_owned(), |metric| metric.value.to_string());
                mismatches.push(format!("metric `{name}`: want {value}, got {got}"));
            } else if kind.is_some() && kind != got_kind {
                mismatches.push(format!(
                    "metric `{name}`: want a {}, got a {}",
                    kind.map_or_else(String::new, |kind| format!("{kind:?}").to_lowercase()),
                    got_kind.map_or_else(String::new, |kind| format!("{kind:?}").to_lowercase()),
                ));
            }
        }
        mismatches.extend(log_mismatches("plugin log", &case.finally.logs, &self.logs));
        for (key, want) in &case.finally.shared_data {
            let got = self.shared_data.get(key).cloned().flatten();
            let got = got.as_deref().map(latin1::text);
            if got.as_ref() != Some(want) {
                mismatches.push(format!("shared data `{key}`: want `{want}`, got {got:?}"));
            }
        }
        for (want, got) in case.finally.queues.iter().zip(&self.queues) {
            queue_mismatches(want, got.as_deref(), mismatches);
        }
        let has_failing_stream = case.exchanges().iter().any(|each| each.fails.is_some())
            || case.connections.iter().any(|each| each.fails.is_some());
        match (&case.finally.fails, &self.failure) {
            (Some(want), None) => mismatches.push(format!("want the VM to fail with `{want}`")),
            (Some(want), Some(failure)) if !failure.to_string().contains(want) => {
                mismatches.push(format!("the VM's failure: want `{want}`, got `{failure}`"));
            }
            // Report it only if no stream has reported it already or was expected to fail.
            (None, Some(failure)) if mismatches.is_empty() && !has_failing_stream => {
                mismatches.push(format!("the VM failed: {failure}"));
            }
            _ => {}
        }
    }
}

/// Returns the exchanges of a case. Where a key that is left out would itself be an expectation, such as `upstream`, the
/// recording's key counts if there is a recording.
fn expected_exchanges(case: &Case) -> Vec<Exchange> {
    let mut exchanges = case.exchanges();
    let recorded = case.golden.as_deref().map(Case::exchanges);
    for (own, recorded) in exchanges.iter_mut().zip(recorded.into_iter().flatten()) {
        own.upstream = own.upstream.take().or(recorded.upstream);
        own.reply = own.reply.take().or(recorded.reply);
        own.fails = own.fails.take().or(recorded.fails);
        own.paused |= recorded.paused;
        own.reset |= recorded.reset;
    }
    exchanges
}

/// Adds the mismatches of several items, each prefixed by the item's number if there is more than one item.
fn numbered(
    what: &str,
    count: usize,
    found: impl Iterator<Item = Vec<String>>,
    mismatches: &mut Vec<String>,
) {
    for (number, found) in found.enumerate() {
        mismatches.extend(found.into_iter().map(|mismatch| match count {
            1 => mismatch,
            _ => format!("{what} {}: {mismatch}", number + 1),
        }));
    }
}

/// The expected end of a stream or connection.
struct ExpectedEnd<'a> {
    fails: Option<&'a str>,
    paused: bool,
    reset: bool,
}

/// Adds the mismatches of the end. Returns false if there is nothing else to compare.
fn end_mismatches(
    want: &ExpectedEnd<'_>,
    filters: &[Outcome],
    mismatches: &mut Vec<String>,
) -> bool {
    let failure = filters.iter().find_map(|filter| filter.failure.as_ref());
    match (want.fails, failure) {
        (None, Some(failure)) => {
            mismatches.push(format!("the filter failed: {failure}{}", log_text(filters)));
            return false;
        }
        (Some(want), None) => mismatches.push(format!("want the filter to fail with `{want}`")),
        (Some(want), Some(failure)) if !failure.to_string().contains(want) => {
            mismatches.push(format!("failure: want `{want}`, got `{failure}`"));
        }
        _ => {}
    }
    let paused = filters
        .iter()
        .flat_map(|filter| &filter.paused)
        .map(|side| match side {
            Side::Request => "request",
            Side::Response => "response",
        })
        .collect::<Vec<_>>()
        .join(" and the ");
    match (want.paused, paused.is_empty()) {
        (false, false) => {
            let has_blocked_body = filters
                .iter()
                .any(|filter| !filter.blocked_bodies.is_empty());
            let hint = if has_blocked_body {
                " and never received its body: while headers are paused, the body waits, unless the plugin is set \
                 up with `allow_on_headers_stop_iteration`"
            } else {
                ""
            };
            mismatches.push(format!(
                "the filter left the {paused} paused{hint}{}",
                log_text(filters)
            ));
            return false;
        }
        (true, true) => mismatches.push("want the filter to leave the stream paused".to_owned()),
        _ => {}
    }
    let is_reset = filters.iter().any(|filter| filter.is_reset) && failure.is_none();
    match (want.reset, is_reset) {
        (false, true) => {
            mismatches.push(format!("the filter reset the stream{}", log_text(filters)));
            return false;
        }
        (true, false) => mismatches.push("want the filter to reset the stream".to_owned()),
        _ => {}
    }
    true
}

fn exchange_mismatches(exchange: &Exchange, outcome: &ChainOutcome, held_ms: u64) -> Vec<String> {
    let mut mismatches = Vec::new();
    let filters = &outcome.filters;
    let end = ExpectedEnd {
        fails: exchange.fails.as_deref(),
        paused: exchange.paused,
        reset: exchange.reset,
    };
    if !end_mismatches(&end, filters, &mut mismatches) {
        return mismatches;
    }
    match (&exchange.upstream, &outcome.upstream) {
        (Some(want), Some(got)) => mismatches.extend(want.mismatches(&convert::received(got))),
        (None, Some(got)) if !(exchange.paused || exchange.reset) => {
            mismatches.push(convert::received(got).unexpected());
        }
        (Some(_), None) => mismatches.push(match &outcome.downstream {
            Some(got) => convert::reply(got).in_place_of_upstream(),
            None => "upstream: want a request, got none, and no response".to_owned(),
        }),
        (None, _) => {}
    }
    match &outcome.downstream {
        Some(got) => mismatches.extend(exchange.downstream.mismatches(&convert::reply(got))),
        None if exchange.downstream != DownstreamExpectation::default() => {
            mismatches.push("downstream: want a response, got none".to_owned());
        }
        None => {}
    }
    reply_mismatches(exchange, outcome, &mut mismatches);
    let logs: Vec<LogLine> = filters
        .iter()
        .flat_map(|filter| filter.logs.clone())
        .collect();
    mismatches.extend(log_mismatches("log", &exchange.logs, &logs));
    if let Some(want) = &exchange.calls {
        let got: Vec<&CallOut> = filters
            .iter()
            .flat_map(|filter| &filter.call_outs)
            .collect();
        call_mismatches(want, &got, &mut mismatches);
    }
    let state = filters.first().map(|filter| &filter.filter_state);
    for (key, want) in &exchange.filter_state {
        let got = state.and_then(|state| state.get(&latin1::bytes(key)));
        let got = got.map(|value| latin1::text(value));
        if got != *want {
            let word = |value: &Option<String>| match value {
                Some(value) => format!("`{value}`"),
                None => "none".to_owned(),
            };
            let (want, got) = (word(want), word(&got));
            mismatches.push(format!("filter state `{key}`: want {want}, got {got}"));
        }
    }
    if exchange.held_ms.is_some_and(|want| want != held_ms) {
        let want = exchange.held_ms.unwrap_or_default();
        mismatches.push(format!("held: want {want} ms, got {held_ms} ms"));
    }
    mismatches
}

fn reply_mismatches(exchange: &Exchange, outcome: &ChainOutcome, mismatches: &mut Vec<String>) {
    let mut filters = outcome.filters.iter();
    let reply = filters.find_map(|filter| filter.local_reply.as_ref());
    let (want, reply) = match (&exchange.reply, reply) {
        (Some(want), Some(reply)) => (want, reply),
        (Some(_), None) => {
            mismatches.push("reply: want a local reply, got none".to_owned());
            return;
        }
        // A local reply is expected if the upstream received no request, but not in place of the upstream's response.
        (None, Some(reply)) if exchange.upstream.is_some() && outcome.upstream.is_some() => {
            if exchange.fails.is_none() {
                let during = short_name(reply.callback);
                let status = reply.status;
                mismatches.push(format!("reply: want none, got {status} in `{during}`"));
            }
            return;
        }
        (None, _) => return,
    };
    let ReplyExpectation {
        during,
        details,
        grpc_status,
        status,
    } = want;
    let got = short_name(reply.callback);
    if let Some(during) = during
        && during != got
    {
        mismatches.push(format!("reply: want it in `{during}`, got it in `{got}`"));
    }
    if details.as_ref().is_some_and(|want| *want != reply.details) {
        mismatches.push(format!(
            "reply details: want {details:?}, got {:?}",
            reply.details
        ));
    }
    if grpc_status.is_some() && *grpc_status != reply.grpc_status {
        mismatches.push(format!(
            "reply gRPC status: want {grpc_status:?}, got {:?}",
            reply.grpc_status
        ));
    }
    if status.is_some_and(|want| want != reply.status) {
        mismatches.push(format!(
            "reply status: want {status:?}, got {}",
            reply.status
        ));
    }
}

/// Compares a connection with what the case expects.
fn connection_mismatches(want: &Connection, got: &Outcome) -> Vec<String> {
    let mut mismatches = Vec::new();
    let end = ExpectedEnd {
        fails: want.fails.as_deref(),
        paused: want.paused,
        reset: want.reset,
    };
    let filters = std::slice::from_ref(got);
    if !end_mismatches(&end, filters, &mut mismatches) {
        return mismatches;
    }
    for (side, want, got) in [
        ("upstream", &want.upstream, &got.upstream),
        ("downstream", &want.downstream, &got.downstream),
    ] {
        let got = forwarded(got.as_ref());
        if want.as_ref().is_some_and(|want| *want != got) {
            let want = want.as_deref().unwrap_or_default();
            mismatches.push(format!("{side} data: want {want:?}, got {got:?}"));
        }
    }
    mismatches.extend(log_mismatches("log", &want.logs, &got.logs));
    mismatches
}

/// Compares a log with the lines that a case expects or forbids.
pub fn log_mismatches(what: &str, want: &[LogExpectation], got: &[LogLine]) -> Vec<String> {
    let mut mismatches = Vec::new();
    for want in want {
        let is_there = got.iter().any(|line| is_like(want, line));
        let text = want.text.as_deref().or(want.matches.as_deref());
        let text = text.unwrap_or("a line");
        if want.absent && is_there {
            mismatches.push(format!("{what}: want no `{text}`{}", lines_text(got)));
        } else if !want.absent && !is_there {
            mismatches.push(format!("{what}: want `{text}`{}", lines_text(got)));
        }
    }
    mismatches
}

fn is_like(want: &LogExpectation, line: &LogLine) -> bool {
    want.level
        .is_none_or(|level| convert::log_level(level) == line.level)
        && want.text.as_ref().is_none_or(|text| *text == line.text)
        && want
            .matches
            .as_ref()
            .is_none_or(|regex| matches_whole(regex, &line.text))
}

fn call_mismatches(want: &[CallExpectation], got: &[&CallOut], mismatches: &mut Vec<String>) {
    if want.len() != got.len() {
        let names: Vec<&str> = got.iter().map(|call| call.cluster.as_str()).collect();
        mismatches.push(format!(
            "call-outs: want {}, got {} ({})",
            want.len(),
            got.len(),
            names.join(", ")
        ));
    }
    for (number, (want, got)) in want.iter().zip(got).enumerate() {
        let what = format!("call-out {}", number + 1);
        if want.upstream != got.cluster {
            mismatches.push(format!(
                "{what}: want one to `{}`, got one to `{}`",
                want.upstream, got.cluster
            ));
        }
        let lines = convert::lines(&got.headers);
        line_mismatches(&what, &want.headers, &lines, mismatches);
        let body = latin1::text(&got.body);
        if want.body.as_ref().is_some_and(|want| *want != body) {
            mismatches.push(format!("{what} body: want {:?}, got {body:?}", want.body));
        }
        let timeout = got.timeout.map_or(0, |timeout| timeout.as_millis());
        if want
            .timeout_ms
            .is_some_and(|want| u128::from(want) != timeout)
        {
            mismatches.push(format!(
                "{what} timeout: want {:?}, got {timeout}",
                want.timeout_ms
            ));
        }
    }
}

fn queue_mismatches(want: &Queue, got: Option<&[Vec<u8>]>, mismatches: &mut Vec<String>) {
    let Queue { name, messages, .. } = want;
    match got {
        Some(got) => {
            let got: Vec<String> = got.iter().map(|message| latin1::text(message)).collect();
            if *messages != got {
                mismatches.push(format!("queue `{name}`: want {messages:?}, got {got:?}"));
            }
        }
        None => mismatches.push(format!("queue `{name}`: want {messages:?}, got no queue")),
    }
}

fn log_text(filters: &[Outcome]) -> String {
    let logs: Vec<LogLine> = filters
        .iter()
        .flat_map(|filter| filter.logs.clone())
        .collect();
    lines_text(&logs)
}

fn lines_text(logs: &[LogLine]) -> String {
    if logs.is_empty() {
        return String::new();
    }
    let lines: Vec<&str> = logs.iter().map(|line| line.text.as_str()).collect();
    format!(", having logged `{}`", lines.join("\n"))
}
