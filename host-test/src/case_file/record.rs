//! How does what happened become a case?
//!
//! The expectation of a case is written anew from what came of it, complete: every field, the body, the logs, the
//! call-outs. Running that file again is the replay: whatever a changed filter does differently is a miss.

use std::collections::BTreeMap;

use super::expectation::{
    CallExpectation, Downstream, Headers, LogExpectation, ReplyExpectation, Upstream,
};
use super::format::{Case, Exchange};
use super::latin1;
use super::run::{Ending, Ran};
use crate::chain::ChainOutcome;
use crate::header_map::HeaderMap;
use crate::outcome::Message;

impl Ran {
    /// The case with what came of it as its expectation.
    pub fn recorded(&self, case: &Case) -> Case {
        let mut recorded = case.clone();
        match &self.ending {
            Ending::Refused(message) => {
                recorded = Case {
                    refused: vec![message.clone()],
                    name: case.name.clone(),
                    why: case.why.clone(),
                    source: case.source.clone(),
                    config: case.config.clone(),
                    plugin: case.plugin.clone(),
                    upstreams: case.upstreams.clone(),
                    shared_data: case.shared_data.clone(),
                    except: case.except.clone(),
                    ..Case::default()
                };
            }
            Ending::Served(outcomes) => {
                recorded.refused.clear();
                let mut exchanges = case
                    .exchanges()
                    .into_iter()
                    .zip(outcomes)
                    .map(|(exchange, outcome)| record(exchange, outcome));
                if let Some(first) = exchanges.next() {
                    recorded.upstream = first.upstream;
                    recorded.downstream = Some(first.downstream);
                    recorded.reply = first.reply;
                    recorded.logs = first.logs;
                    recorded.calls = first.calls;
                    recorded.paused = first.paused;
                    recorded.reset = first.reset;
                    recorded.fails = first.fails;
                }
                recorded.then = exchanges.collect();
                let metrics = self.metrics.iter();
                recorded.finally.metrics = metrics
                    .map(|(name, metric)| (name.clone(), metric.value))
                    .collect();
            }
        }
        recorded
    }
}

fn record(mut exchange: Exchange, outcome: &ChainOutcome) -> Exchange {
    let filters = || outcome.filters.iter();
    exchange.upstream = outcome.upstream.as_ref().map(upstream);
    exchange.downstream = outcome
        .downstream
        .as_ref()
        .map(downstream)
        .unwrap_or_default();
    exchange.reply = filters()
        .find_map(|filter| filter.local_reply.as_ref())
        .map(|reply| ReplyExpectation {
            details: Some(reply.details.clone()),
            grpc_status: reply.grpc_status,
            status: Some(reply.status),
        });
    exchange.logs = filters()
        .flat_map(|filter| &filter.logs)
        .map(|line| LogExpectation {
            level: Some(line.level.to_string()),
            text: Some(line.text.clone()),
            ..LogExpectation::default()
        })
        .collect();
    let calls: Vec<CallExpectation> = filters()
        .flat_map(|filter| &filter.call_outs)
        .map(|call| CallExpectation {
            upstream: call.upstream.clone(),
            headers: headers(&call.headers, |_| true),
            body: Some(latin1::text(&call.body)),
            timeout_ms: call
                .timeout
                .and_then(|timeout| u64::try_from(timeout.as_millis()).ok())
                .or(Some(0)),
        })
        .collect();
    exchange.calls = Some(calls);
    exchange.paused = filters().any(|filter| !filter.paused.is_empty());
    exchange.reset = filters().any(|filter| filter.is_reset);
    exchange.fails = filters()
        .find_map(|filter| filter.failure.as_ref())
        .map(|failure| failure.callback().to_owned());
    exchange
}

fn upstream(message: &Message) -> Upstream {
    let pseudo = |name| message.headers.get(name).map(latin1::text);
    Upstream {
        method: pseudo(":method"),
        target: pseudo(":path"),
        host: pseudo(":authority"),
        headers: headers(&message.headers, |name| !name.starts_with(':')),
        body: Some(latin1::text(&message.body)),
        trailers: headers(&message.trailers, |_| true),
        ..Upstream::default()
    }
}

fn downstream(message: &Message) -> Downstream {
    let status = message.headers.get(":status").map(latin1::text);
    Downstream {
        status: status.and_then(|status| status.parse().ok()),
        headers: headers(&message.headers, |name| !name.starts_with(':')),
        body: Some(latin1::text(&message.body)),
        trailers: headers(&message.trailers, |_| true),
        ..Downstream::default()
    }
}

fn headers(map: &HeaderMap, is_wanted: impl Fn(&str) -> bool) -> Headers {
    let mut headers: Headers = BTreeMap::new();
    for (name, value) in latin1::lines(map) {
        if is_wanted(&name) {
            headers.entry(name).or_default().push(value);
        }
    }
    headers
}
