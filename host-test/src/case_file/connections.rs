//! Runs the connections of a case through a network filter.

use std::time::Duration;

use fluxlit_cases::{Close, Connection, ConnectionEvent, latin1};

use super::convert;
use super::start::StartedCase;
use crate::connection::ClosedBy;
use crate::vm::outcome::Outcome;

/// Runs a connection on the first worker. Data that the filter still holds after the last event stay held.
pub(super) fn run(started: &StartedCase, connection: &Connection) -> Outcome {
    let peer_key = started.peer_key.as_deref();
    let Connection {
        peer,
        tls,
        properties,
        events,
        ..
    } = connection;
    let properties = convert::properties(*peer, *tls, properties, peer_key);
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
