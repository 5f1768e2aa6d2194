//! In what does an outcome miss the expectation of its case?
//!
//! One readable line a miss: what is looked at, what was wanted, what came. A filter that trapped, paused for ever or
//! reset the stream has missed every expectation but that one.

use regex::Regex;

use super::expectation::{
    CallExpectation, Downstream, Headers, LogExpectation, Matches, ReplyExpectation, Upstream,
};
use super::format::{Case, Exchange};
use super::latin1;
use super::run::{Ending, Ran};
use crate::abi::LogLevel;
use crate::call_out::CallOut;
use crate::chain::ChainOutcome;
use crate::header_map::HeaderMap;
use crate::host::LogLine;
use crate::outcome::Message;
use crate::stream::Side;

impl Ran {
    /// Says in what this misses the expectation of `case`; empty if it is met.
    pub fn misses(&self, case: &Case) -> Vec<String> {
        let mut misses = Vec::new();
        match &self.ending {
            Ending::Refused(message) if case.refused.is_empty() => {
                misses.push(format!("configuration: want it accepted, got `{message}`"));
            }
            Ending::Refused(message) => {
                for text in &case.refused {
                    if !message.contains(text) {
                        misses.push(format!(
                            "refusal: want a message with `{text}`, got `{message}`"
                        ));
                    }
                }
            }
            Ending::Served(_) if !case.refused.is_empty() => {
                misses.push("configuration: want it refused, got it accepted".to_owned());
            }
            Ending::Served(outcomes) => {
                let exchanges = case.exchanges();
                for (number, (exchange, outcome)) in exchanges.iter().zip(outcomes).enumerate() {
                    let prefix = if exchanges.len() > 1 {
                        format!("exchange {}: ", number + 1)
                    } else {
                        String::new()
                    };
                    let found = exchange_misses(exchange, outcome);
                    misses.extend(found.into_iter().map(|miss| format!("{prefix}{miss}")));
                }
            }
        }
        self.final_misses(case, &mut misses);
        misses
    }

    fn final_misses(&self, case: &Case, misses: &mut Vec<String>) {
        for (name, want) in &case.finally.metrics {
            let got = self.metrics.get(name).map(|metric| metric.value);
            if got != Some(*want) {
                let got = got.map_or_else(|| "none".to_owned(), |value| value.to_string());
                misses.push(format!("metric `{name}`: want {want}, got {got}"));
            }
        }
        log_misses("plugin log", &case.finally.logs, &self.logs, misses);
        for (key, want) in &case.finally.shared_data {
            let got = self.shared_data.get(key).cloned().flatten();
            let got = got.as_deref().map(latin1::text);
            if got.as_ref() != Some(want) {
                misses.push(format!("shared data `{key}`: want `{want}`, got {got:?}"));
            }
        }
    }
}

fn exchange_misses(exchange: &Exchange, outcome: &ChainOutcome) -> Vec<String> {
    let mut misses = Vec::new();
    let logs: Vec<LogLine> = outcome
        .filters
        .iter()
        .flat_map(|filter| filter.logs.clone())
        .collect();
    let failure = outcome
        .filters
        .iter()
        .find_map(|filter| filter.failure.as_ref());
    match (&exchange.fails, failure) {
        (None, Some(failure)) => {
            misses.push(format!("the filter failed: {failure}{}", log_text(&logs)));
            return misses;
        }
        (Some(want), None) => misses.push(format!("want the filter to fail with `{want}`")),
        (Some(want), Some(failure)) if !failure.to_string().contains(want) => {
            misses.push(format!("failure: want `{want}`, got `{failure}`"));
        }
        _ => {}
    }
    let paused = outcome
        .filters
        .iter()
        .flat_map(|filter| &filter.paused)
        .map(|side| match side {
            Side::Request => "request",
            Side::Response => "response",
        })
        .collect::<Vec<_>>()
        .join(" and the ");
    match (exchange.paused, paused.is_empty()) {
        (false, false) => {
            misses.push(format!(
                "the filter left the {paused} paused{}",
                log_text(&logs)
            ));
            return misses;
        }
        (true, true) => misses.push("want the filter to leave the stream paused".to_owned()),
        _ => {}
    }
    let is_reset = outcome.filters.iter().any(|filter| filter.is_reset);
    match (exchange.reset, is_reset) {
        (false, true) => {
            misses.push(format!("the filter reset the stream{}", log_text(&logs)));
            return misses;
        }
        (true, false) => misses.push("want the filter to reset the stream".to_owned()),
        _ => {}
    }
    upstream_misses(exchange, outcome, &mut misses);
    downstream_misses(&exchange.downstream, outcome, &mut misses);
    if let Some(want) = &exchange.reply {
        reply_misses(want, outcome, &mut misses);
    }
    log_misses("log", &exchange.logs, &logs, &mut misses);
    if let Some(want) = &exchange.calls {
        let got: Vec<&CallOut> = outcome
            .filters
            .iter()
            .flat_map(|filter| &filter.call_outs)
            .collect();
        call_misses(want, &got, &mut misses);
    }
    misses
}

fn upstream_misses(exchange: &Exchange, outcome: &ChainOutcome, misses: &mut Vec<String>) {
    let (want, got) = match (&exchange.upstream, &outcome.upstream) {
        (Some(want), Some(got)) => (want, got),
        (None, Some(got)) => {
            if !(exchange.paused || exchange.reset) {
                let pseudo = |name| latin1::text(got.headers.get(name).unwrap_or_default());
                misses.push(format!(
                    "upstream: want it not asked, got {} {}",
                    pseudo(":method"),
                    pseudo(":path")
                ));
            }
            return;
        }
        (Some(_), None) => {
            let status = outcome.downstream.as_ref().map_or_else(
                || "no answer".to_owned(),
                |message| format!("the local answer {}", status_text(message)),
            );
            misses.push(format!("upstream: want it asked, got {status}"));
            return;
        }
        (None, None) => return,
    };
    let Upstream {
        method,
        target,
        host,
        headers,
        matches,
        body,
        body_matches,
        trailers,
    } = want;
    for (what, name, want) in [
        ("method", ":method", method),
        ("target", ":path", target),
        ("host", ":authority", host),
    ] {
        let got = got.headers.get(name).map(latin1::text);
        if want.is_some() && *want != got {
            let want = want.as_deref().unwrap_or_default();
            let got = got.unwrap_or_else(|| "none".to_owned());
            misses.push(format!("upstream {what}: want `{want}`, got `{got}`"));
        }
    }
    message_misses(
        "upstream",
        got,
        (headers, matches, trailers),
        (body, body_matches),
        misses,
    );
}

fn downstream_misses(want: &Downstream, outcome: &ChainOutcome, misses: &mut Vec<String>) {
    let Downstream {
        status,
        headers,
        matches,
        body,
        body_matches,
        trailers,
    } = want;
    let Some(got) = &outcome.downstream else {
        if *want != Downstream::default() {
            misses.push("downstream: want an answer, got none".to_owned());
        }
        return;
    };
    if let Some(status) = status
        && status.to_string() != status_text(got)
    {
        misses.push(format!(
            "downstream status: want {status}, got {}",
            status_text(got)
        ));
    }
    message_misses(
        "downstream",
        got,
        (headers, matches, trailers),
        (body, body_matches),
        misses,
    );
}

fn message_misses(
    side: &str,
    got: &Message,
    (headers, matches, trailers): (&Headers, &Matches, &Headers),
    (body, body_matches): (&Option<String>, &Option<String>),
    misses: &mut Vec<String>,
) {
    line_misses(side, headers, &got.headers, misses);
    line_misses(&format!("{side} trailer"), trailers, &got.trailers, misses);
    for (name, regex) in matches {
        let got = lines(&got.headers, name);
        if !got.iter().any(|line| matches_whole(regex, line)) {
            misses.push(format!(
                "{side} `{name}`: want a line like `{regex}`, got {got:?}"
            ));
        }
    }
    let got = latin1::text(&got.body);
    if let Some(want) = body
        && *want != got
    {
        misses.push(format!("{side} body: want {want:?}, got {got:?}"));
    }
    if let Some(regex) = body_matches
        && !matches_whole(regex, &got)
    {
        misses.push(format!("{side} body: want it like `{regex}`, got {got:?}"));
    }
}

fn reply_misses(want: &ReplyExpectation, outcome: &ChainOutcome, misses: &mut Vec<String>) {
    let reply = outcome
        .filters
        .iter()
        .find_map(|filter| filter.local_reply.as_ref());
    let Some(reply) = reply else {
        misses.push("reply: want the filter to answer itself".to_owned());
        return;
    };
    let ReplyExpectation {
        details,
        grpc_status,
        status,
    } = want;
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

fn log_misses(what: &str, want: &[LogExpectation], got: &[LogLine], misses: &mut Vec<String>) {
    for want in want {
        let is_there = got.iter().any(|line| is_like(want, line));
        let text = want.text.as_deref().or(want.matches.as_deref());
        let text = text.unwrap_or("a line");
        if want.absent && is_there {
            misses.push(format!("{what}: want no `{text}`{}", log_text(got)));
        } else if !want.absent && !is_there {
            misses.push(format!("{what}: want `{text}`{}", log_text(got)));
        }
    }
}

fn is_like(want: &LogExpectation, line: &LogLine) -> bool {
    let level = want.level.as_deref().and_then(LogLevel::named);
    level.is_none_or(|level| level == line.level)
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
        line_misses(&what, &want.headers, &got.headers, misses);
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

fn line_misses(side: &str, want: &Headers, got: &HeaderMap, misses: &mut Vec<String>) {
    for (name, want) in want {
        let got = lines(got, name);
        if *want != got {
            misses.push(format!("{side} `{name}`: want {want:?}, got {got:?}"));
        }
    }
}

fn lines(map: &HeaderMap, name: &str) -> Vec<String> {
    map.get_all(&name.to_ascii_lowercase())
        .into_iter()
        .map(latin1::text)
        .collect()
}

fn status_text(message: &Message) -> String {
    latin1::text(message.headers.get(":status").unwrap_or_default())
}

fn log_text(logs: &[LogLine]) -> String {
    if logs.is_empty() {
        return String::new();
    }
    let lines: Vec<&str> = logs.iter().map(|line| line.text.as_str()).collect();
    format!(", having logged `{}`", lines.join("\n"))
}

/// A regular expression for a whole text, as Google's suites have it, too.
pub(crate) fn whole(regex: &str) -> Result<Regex, String> {
    Regex::new(&format!("(?s)^(?:{regex})$")).map_err(|error| format!("regex `{regex}`: {error}"))
}

/// Whether `regex`, which was checked when the file was read, matches the whole of `text`.
pub(crate) fn matches_whole(regex: &str, text: &str) -> bool {
    whole(regex).is_ok_and(|regex| regex.is_match(text))
}
