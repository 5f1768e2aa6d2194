//! Records the result of a case as its new expectation.
//!
//! The expectation is complete: every field, the body, the logs, the call-outs. A replay runs the recorded file again, so
//! that every change in the filter's behavior is a mismatch.

use std::collections::BTreeMap;

use fluxlit_cases::{
    CallExpectation, Case, Connection, DownstreamExpectation, Exchange, Finally, Headers,
    LogExpectation, MetricExpectation, Queue, ReplyExpectation, UpstreamExpectation, latin1,
};

use super::convert;
use super::result::{CaseResult, Ending, forwarded, short_name};
use super::run::to_received;
use crate::abi::HeaderMap;
use crate::chain::ChainOutcome;
use crate::envoy::profile::Profile;
use crate::event::{LogLine, Message};
use crate::process::Process;
use crate::vm::outcome::Outcome;
use crate::vm::shared::Metric;

/// Returns an exchange that took place outside of a case, such as a live one, with what the filter did as its expectation. The
/// time for which the filter held it is not expected, because real time passed.
pub fn recorded_live(profile: Profile, exchange: Exchange, outcome: Outcome) -> Exchange {
    let mut outcome = ChainOutcome {
        upstream: outcome.upstream.clone(),
        downstream: outcome.downstream.clone(),
        filters: vec![outcome],
    };
    to_received(profile, &exchange.request, &mut outcome);
    let mut exchange = record(exchange, &outcome, 0);
    exchange.held_ms = None;
    exchange
}

/// Returns what a plugin has logged and counted outside of a case as an expectation of the end. Counts of a plugin with ticks
/// are left out, because they depend on the time that passes.
pub fn recorded_end(process: &Process, logs: &[LogLine]) -> Finally {
    let metrics = if process.has_ticks() {
        BTreeMap::new()
    } else {
        metrics(&process.metrics())
    };
    Finally {
        metrics,
        logs: self::logs(logs),
        ..Finally::default()
    }
}

fn metrics(metrics: &BTreeMap<String, Metric>) -> BTreeMap<String, MetricExpectation> {
    let typed = |metric: &Metric| MetricExpectation::Typed {
        kind: convert::metric_kind(metric.kind),
        value: metric.value,
    };
    let metrics = metrics.iter();
    metrics
        .map(|(name, metric)| (name.clone(), typed(metric)))
        .collect()
}

impl CaseResult {
    /// Returns the case with this result as its expectation.
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
                    queues: case.queues.clone(),
                    workers: case.workers,
                    except: case.except.clone(),
                    ..Case::default()
                };
            }
            Ending::Served(outcomes) => {
                recorded.refused.clear();
                let mut outcomes = outcomes.iter().zip(&self.held_ms);
                let mut next = |exchange: Exchange| match outcomes.next() {
                    Some((outcome, held_ms)) => record(exchange, outcome, *held_ms),
                    None => exchange,
                };
                let groups = case.groups().into_iter().map(|mut group| {
                    let alongside = std::mem::take(&mut group.alongside);
                    let mut group = next(group);
                    group.alongside = alongside.into_iter().map(&mut next).collect();
                    group
                });
                let groups: Vec<Exchange> = groups.collect();
                recorded.set_groups(groups);
                recorded.connections = case
                    .connections
                    .iter()
                    .zip(&self.connections)
                    .map(|(connection, outcome)| record_connection(connection, outcome))
                    .collect();
                self.record_end(case, &mut recorded);
            }
        }
        recorded
    }

    fn record_end(&self, case: &Case, recorded: &mut Case) {
        let finally = &mut recorded.finally;
        finally.metrics = metrics(&self.metrics);
        finally.logs = logs(&self.logs);
        finally.shared_data = self
            .shared_data
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), latin1::text(value.as_ref()?))))
            .collect();
        finally.queues = case
            .finally
            .queues
            .iter()
            .zip(&self.queues)
            .filter_map(|(queue, messages)| {
                let messages = messages.as_ref()?.iter();
                Some(Queue {
                    messages: messages.map(|message| latin1::text(message)).collect(),
                    ..queue.clone()
                })
            })
            .collect();
        finally.fails = self
            .failure
            .as_ref()
            .map(|failure| failure.callback().to_owned());
    }
}

fn record(mut exchange: Exchange, outcome: &ChainOutcome, held_ms: u64) -> Exchange {
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
            during: Some(short_name(reply.callback).to_owned()),
            details: Some(reply.details.clone()),
            grpc_status: reply.grpc_status,
            status: Some(reply.status),
        });
    exchange.logs = filters().flat_map(|filter| logs(&filter.logs)).collect();
    exchange.held_ms = Some(held_ms);
    exchange.filter_state = filters()
        .flat_map(|filter| &filter.filter_state)
        .map(|(key, value)| (latin1::text(key), Some(latin1::text(value))))
        .collect();
    let calls: Vec<CallExpectation> = filters()
        .flat_map(|filter| &filter.call_outs)
        .map(|call| CallExpectation {
            upstream: call.cluster.clone(),
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
    // A filter that failed after the response headers also reset the stream; record only the failure.
    exchange.reset = filters().any(|filter| filter.is_reset && filter.failure.is_none());
    exchange.fails = filters()
        .find_map(|filter| filter.failure.as_ref())
        .map(|failure| failure.callback().to_owned());
    exchange
}

/// Returns the connection with its outcome as its expectation.
fn record_connection(connection: &Connection, outcome: &Outcome) -> Connection {
    Connection {
        upstream: Some(forwarded(outcome.upstream.as_ref())),
        downstream: Some(forwarded(outcome.downstream.as_ref())),
        logs: logs(&outcome.logs),
        paused: !outcome.paused.is_empty(),
        reset: outcome.is_reset && outcome.failure.is_none(),
        fails: outcome
            .failure
            .as_ref()
            .map(|failure| failure.callback().to_owned()),
        ..connection.clone()
    }
}

fn logs(lines: &[LogLine]) -> Vec<LogExpectation> {
    lines
        .iter()
        .map(|line| LogExpectation {
            level: Some(convert::level(line.level)),
            text: Some(line.text.clone()),
            ..LogExpectation::default()
        })
        .collect()
}

fn upstream(message: &Message) -> UpstreamExpectation {
    let pseudo = |name| message.headers.get(name).map(latin1::text);
    UpstreamExpectation {
        method: pseudo(":method"),
        target: pseudo(":path"),
        host: pseudo(":authority"),
        headers: headers(&message.headers, |name| !name.starts_with(':')),
        body: Some(latin1::text(&message.body)),
        trailers: headers(&message.trailers, |_| true),
        ..UpstreamExpectation::default()
    }
}

fn downstream(message: &Message) -> DownstreamExpectation {
    let status = message.headers.get(":status").map(latin1::text);
    DownstreamExpectation {
        status: status.and_then(|status| status.parse().ok()),
        headers: headers(&message.headers, |name| !name.starts_with(':')),
        body: Some(latin1::text(&message.body)),
        trailers: headers(&message.trailers, |_| true),
        ..DownstreamExpectation::default()
    }
}

fn headers(map: &HeaderMap, is_wanted: impl Fn(&str) -> bool) -> Headers {
    let mut headers: Headers = BTreeMap::new();
    for (name, value) in convert::lines(map) {
        if is_wanted(&name) {
            headers.entry(name).or_default().push(value);
        }
    }
    headers
}
