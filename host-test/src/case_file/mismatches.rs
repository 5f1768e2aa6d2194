//! In what does what came of a case miss its expectation?
//!
//! One readable line a miss: what is looked at, what was wanted, what came. A filter that trapped, paused for ever or
//! reset the stream has missed every expectation but that one.

use fluxlit_cases::{
    CallExpectation, Case, Downstream, Exchange, LogExpectation, MetricExpectation, Queue,
    ReplyExpectation, latin1, line_misses, matches_whole,
};

use super::connections;
use super::convert;
use super::run::{Ending, Ran};
use crate::chain::ChainOutcome;
use crate::stream::Side;
use crate::vm::call_out::CallOut;
use crate::vm::outcome::Outcome;
use crate::vm::state::LogLine;

impl Ran {
    /// Says in what this misses the expectation of `case`, and of its recording if it has one; empty if it is met.
    pub fn misses(&self, case: &Case) -> Vec<String> {
        let mut misses = Vec::new();
        match &self.ending {
            Ending::Refused(message) => {
                let refused = fluxlit_cases::Outcome::Refused(message.clone());
                misses.extend(refused.misses(case));
            }
            Ending::Served(_) if !case.refused.is_empty() => {
                let served = fluxlit_cases::Outcome::Served(Vec::new());
                misses.extend(served.misses(case));
            }
            Ending::Served(outcomes) => {
                let exchanges = case.exchanges();
                let found =
                    exchanges.iter().zip(outcomes).zip(&self.held_ms).map(
                        |((exchange, outcome), held)| exchange_misses(exchange, outcome, *held),
                    );
                numbered("exchange", exchanges.len(), found, &mut misses);
                let found = case
                    .connections
                    .iter()
                    .zip(&self.connections)
                    .map(|(connection, outcome)| connections::misses(connection, outcome));
                numbered("connection", case.connections.len(), found, &mut misses);
            }
        }
        self.final_misses(case, &mut misses);
        if let Some(golden) = &case.golden {
            let found = self.misses(golden);
            misses.extend(found.into_iter().map(|miss| format!("recording: {miss}")));
        }
        misses
    }

    fn final_misses(&self, case: &Case, misses: &mut Vec<String>) {
        for (name, want) in &case.finally.metrics {
            let got = self.metrics.get(name);
            let (kind, value) = match want {
                MetricExpectation::Value(value) => (None, *value),
                MetricExpectation::Typed { kind, value } => (Some(*kind), *value),
            };
            let got_kind = got.map(|metric| convert::metric_kind(metric.kind));
            if got.map(|metric| metric.value) != Some(value) {
                let got = got.map_or_else(|| "none".to_owned(), |metric| metric.value.to_string());
                misses.push(format!("metric `{name}`: want {value}, got {got}"));
            } else if kind.is_some() && kind != got_kind {
                misses.push(format!(
                    "metric `{name}`: want a {}, got a {}",
                    kind.map_or_else(String::new, |kind| format!("{kind:?}").to_lowercase()),
                    got_kind.map_or_else(String::new, |kind| format!("{kind:?}").to_lowercase()),
                ));
            }
        }
        misses.extend(log_misses("plugin log", &case.finally.logs, &self.logs));
        for (key, want) in &case.finally.shared_data {
            let got = self.shared_data.get(key).cloned().flatten();
            let got = got.as_deref().map(latin1::text);
            if got.as_ref() != Some(want) {
                misses.push(format!("shared data `{key}`: want `{want}`, got {got:?}"));
            }
        }
        for (want, got) in case.finally.queues.iter().zip(&self.queues) {
            queue_misses(want, got.as_deref(), misses);
        }
        let has_failing_stream = case.exchanges().iter().any(|each| each.fails.is_some())
            || case.connections.iter().any(|each| each.fails.is_some());
        match (&case.finally.fails, &self.failure) {
            (Some(want), None) => misses.push(format!("want the VM to fail with `{want}`")),
            (Some(want), Some(failure)) if !failure.to_string().contains(want) => {
                misses.push(format!("the VM's failure: want `{want}`, got `{failure}`"));
            }
            // A stream has said so already, or was to fail.
            (None, Some(failure)) if misses.is_empty() && !has_failing_stream => {
                misses.push(format!("the VM failed: {failure}"));
            }
            _ => {}
        }
    }
}

/// Puts what is missed into `misses`, with numbers if there is more than one of them.
fn numbered(
    what: &str,
    count: usize,
    found: impl Iterator<Item = Vec<String>>,
    misses: &mut Vec<String>,
) {
    for (number, found) in found.enumerate() {
        misses.extend(found.into_iter().map(|miss| match count {
            1 => miss,
            _ => format!("{what} {}: {miss}", number + 1),
        }));
    }
}

/// How a stream or connection may end instead of passing.
pub(super) struct Ends<'a> {
    pub(super) fails: Option<&'a str>,
    pub(super) paused: bool,
    pub(super) reset: bool,
}

/// Adds in what the end misses; false if nothing else need be looked at.
pub(super) fn end_misses(want: &Ends<'_>, filters: &[Outcome], misses: &mut Vec<String>) -> bool {
    let failure = filters.iter().find_map(|filter| filter.failure.as_ref());
    match (want.fails, failure) {
        (None, Some(failure)) => {
            misses.push(format!("the filter failed: {failure}{}", log_text(filters)));
            return false;
        }
        (Some(want), None) => misses.push(format!("want the filter to fail with `{want}`")),
        (Some(want), Some(failure)) if !failure.to_string().contains(want) => {
            misses.push(format!("failure: want `{want}`, got `{failure}`"));
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
            let is_unseen = filters.iter().any(|filter| !filter.unseen.is_empty());
            let hint = if is_unseen {
                ", and never saw its body: while headers are paused, the body waits behind them, unless the plugin is \
                 set up with `allow_on_headers_stop_iteration`"
            } else {
                ""
            };
            misses.push(format!(
                "the filter left the {paused} paused{hint}{}",
                log_text(filters)
            ));
            return false;
        }
        (true, true) => misses.push("want the filter to leave the stream paused".to_owned()),
        _ => {}
    }
    let is_reset = filters.iter().any(|filter| filter.is_reset) && failure.is_none();
    match (want.reset, is_reset) {
        (false, true) => {
            misses.push(format!("the filter reset the stream{}", log_text(filters)));
            return false;
        }
        (true, false) => misses.push("want the filter to reset the stream".to_owned()),
        _ => {}
    }
    true
}

fn exchange_misses(exchange: &Exchange, outcome: &ChainOutcome, held_ms: u64) -> Vec<String> {
    let mut misses = Vec::new();
    let filters = &outcome.filters;
    let ends = Ends {
        fails: exchange.fails.as_deref(),
        paused: exchange.paused,
        reset: exchange.reset,
    };
    if !end_misses(&ends, filters, &mut misses) {
        return misses;
    }
    match (&exchange.upstream, &outcome.upstream) {
        (Some(want), Some(got)) => misses.extend(want.misses(&convert::received(got))),
        (None, Some(got)) if !(exchange.paused || exchange.reset) => {
            misses.push(convert::received(got).is_unwanted());
        }
        (Some(_), None) => misses.push(match &outcome.downstream {
            Some(got) => convert::reply(got).is_instead(),
            None => "upstream: want it asked, got no answer".to_owned(),
        }),
        (None, _) => {}
    }
    match &outcome.downstream {
        Some(got) => misses.extend(exchange.downstream.misses(&convert::reply(got))),
        None if exchange.downstream != Downstream::default() => {
            misses.push("downstream: want an answer, got none".to_owned());
        }
        None => {}
    }
    reply_misses(exchange, outcome, &mut misses);
    let logs: Vec<LogLine> = filters
        .iter()
        .flat_map(|filter| filter.logs.clone())
        .collect();
    misses.extend(log_misses("log", &exchange.logs, &logs));
    if let Some(want) = &exchange.calls {
        let got: Vec<&CallOut> = filters
            .iter()
            .flat_map(|filter| &filter.call_outs)
            .collect();
        call_misses(want, &got, &mut misses);
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
            misses.push(format!("filter state `{key}`: want {want}, got {got}"));
        }
    }
    if exchange.held_ms.is_some_and(|want| want != held_ms) {
        let want = exchange.held_ms.unwrap_or_default();
        misses.push(format!("held: want {want} ms, got {held_ms} ms"));
    }
    misses
}

fn reply_misses(exchange: &Exchange, outcome: &ChainOutcome, misses: &mut Vec<String>) {
    let mut filters = outcome.filters.iter();
    let reply = filters.find_map(|filter| filter.local_reply.as_ref());
    let (want, reply) = match (&exchange.reply, reply) {
        (Some(want), Some(reply)) => (want, reply),
        (Some(_), None) => {
            misses.push("reply: want the filter to answer itself".to_owned());
            return;
        }
        // Without a request to the upstream it is expected; in place of the upstream's answer it is not.
        (None, Some(reply)) if exchange.upstream.is_some() && outcome.upstream.is_some() => {
            if exchange.fails.is_none() {
                let during = short_name(reply.callback);
                let status = reply.status;
                misses.push(format!("reply: want none, got {status} in `{during}`"));
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
        misses.push(format!("reply: want it in `{during}`, got it in `{got}`"));
    }
    if details.as_ref().is_some_and(|want| *want != reply.details) {
        misses.push(format!(
            "reply details: want {details:?}, got {:?}",
            reply.details
        ));
    }
    if grpc_status.is_some() && *grpc_status != reply.grpc_status {
        misses.push(format!(
            "reply gRPC status: want {grpc_status:?}, got {:?}",
            reply.grpc_status
        ));
    }
    if status.is_some_and(|want| want != reply.status) {
        misses.push(format!(
            "reply status: want {status:?}, got {}",
            reply.status
        ));
    }
}

/// A callback's name as case files have it.
pub(super) fn short_name(callback: &str) -> &str {
    callback.strip_prefix("proxy_on_").unwrap_or(callback)
}

/// Says which lines of a log are missed, and which should not be there.
pub fn log_misses(what: &str, want: &[LogExpectation], got: &[LogLine]) -> Vec<String> {
    let mut misses = Vec::new();
    for want in want {
        let is_there = got.iter().any(|line| is_like(want, line));
        let text = want.text.as_deref().or(want.matches.as_deref());
        let text = text.unwrap_or("a line");
        if want.absent && is_there {
            misses.push(format!("{what}: want no `{text}`{}", lines_text(got)));
        } else if !want.absent && !is_there {
            misses.push(format!("{what}: want `{text}`{}", lines_text(got)));
        }
    }
    misses
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

fn call_misses(want: &[CallExpectation], got: &[&CallOut], misses: &mut Vec<String>) {
    if want.len() != got.len() {
        let names: Vec<&str> = got.iter().map(|call| call.upstream.as_str()).collect();
        misses.push(format!(
            "call-outs: want {}, got {} ({})",
            want.len(),
            got.len(),
            names.join(", ")
        ));
    }
    for (number, (want, got)) in want.iter().zip(got).enumerate() {
        let what = format!("call-out {}", number + 1);
        if want.upstream != got.upstream {
            misses.push(format!(
                "{what}: want one to `{}`, got one to `{}`",
                want.upstream, got.upstream
            ));
        }
        let lines = convert::lines(&got.headers);
        line_misses(&what, &want.headers, &lines, misses);
        let body = latin1::text(&got.body);
        if want.body.as_ref().is_some_and(|want| *want != body) {
            misses.push(format!("{what} body: want {:?}, got {body:?}", want.body));
        }
        let timeout = got.timeout.map_or(0, |timeout| timeout.as_millis());
        if want
            .timeout_ms
            .is_some_and(|want| u128::from(want) != timeout)
        {
            misses.push(format!(
                "{what} time-out: want {:?}, got {timeout}",
                want.timeout_ms
            ));
        }
    }
}

fn queue_misses(want: &Queue, got: Option<&[Vec<u8>]>, misses: &mut Vec<String>) {
    let Queue { name, messages, .. } = want;
    match got {
        Some(got) => {
            let got: Vec<String> = got.iter().map(|message| latin1::text(message)).collect();
            if *messages != got {
                misses.push(format!("queue `{name}`: want {messages:?}, got {got:?}"));
            }
        }
        None => misses.push(format!("queue `{name}`: want {messages:?}, got no queue")),
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
