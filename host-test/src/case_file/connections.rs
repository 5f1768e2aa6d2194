//! What comes of the connections of a case?

use std::time::Duration;

use fluxlit_cases::{Close, Connection, ConnectionEvent, latin1};

use super::convert;
use super::mismatches::{Ends, end_misses, log_misses};
use super::start::Started;
use crate::connection::ClosedBy;
use crate::vm::outcome::{Message, Outcome};

/// Plays a connection on the first worker. What is held when its events are over stays held.
pub(super) fn run(started: &Started, connection: &Connection) -> Outcome {
    let recorded_as = started.recorded_as.as_deref();
    let Connection {
        peer,
        tls,
        properties,
        events,
        ..
    } = connection;
    let properties = convert::properties(*peer, *tls, properties, recorded_as);
    let Some(plugin) = started.tested(0) else {
        return Outcome::default();
    };
    let mut open = plugin.connection(properties);
    for event in events {
        match event {
            ConnectionEvent::AfterMs(milliseconds) => {
                started
                    .process
                    .advance(Duration::from_millis(*milliseconds));
            }
            ConnectionEvent::Downstream(text) => {
                open.downstream_data(latin1::bytes(text), false);
            }
            ConnectionEvent::DownstreamEnd(text) => {
                open.downstream_data(latin1::bytes(text), true);
            }
            ConnectionEvent::Upstream(text) => {
                open.upstream_data(latin1::bytes(text), false);
            }
            ConnectionEvent::UpstreamEnd(text) => {
                open.upstream_data(latin1::bytes(text), true);
            }
            ConnectionEvent::Close(Close::Local) => open.close(ClosedBy::Local),
            ConnectionEvent::Close(Close::Remote) => open.close(ClosedBy::Remote),
        }
    }
    open.finish()
}

/// Says in what a connection misses what it should be.
pub(super) fn misses(want: &Connection, got: &Outcome) -> Vec<String> {
    let mut misses = Vec::new();
    let ends = Ends {
        fails: want.fails.as_deref(),
        paused: want.paused,
        reset: want.reset,
    };
    let filters = std::slice::from_ref(got);
    if !end_misses(&ends, filters, &mut misses) {
        return misses;
    }
    for (side, want, got) in [
        ("upstream", &want.upstream, &got.upstream),
        ("downstream", &want.downstream, &got.downstream),
    ] {
        let got = passed(got.as_ref());
        if want.as_ref().is_some_and(|want| *want != got) {
            let want = want.as_deref().unwrap_or_default();
            misses.push(format!("{side} data: want {want:?}, got {got:?}"));
        }
    }
    misses.extend(log_misses("log", &want.logs, &got.logs));
    misses
}

/// The connection with what came of it as its expectation.
pub(super) fn recorded(connection: &Connection, outcome: &Outcome) -> Connection {
    Connection {
        upstream: Some(passed(outcome.upstream.as_ref())),
        downstream: Some(passed(outcome.downstream.as_ref())),
        logs: super::record::logs(&outcome.logs),
        paused: !outcome.paused.is_empty(),
        reset: outcome.is_reset && outcome.failure.is_none(),
        fails: outcome
            .failure
            .as_ref()
            .map(|failure| failure.callback().to_owned()),
        ..connection.clone()
    }
}

fn passed(message: Option<&Message>) -> String {
    message.map_or_else(String::new, |message| latin1::text(&message.body))
}
