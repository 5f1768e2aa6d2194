//! Converts between the types of case files and those of this host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use fluxlit_cases::{
    CallAnswer, CallFailure, DownstreamResponse, ForeignAnswer, InjectedFault, Level, MetricKind,
    Peer, Property, Request, TypedValue, UpstreamRequest, Version, latin1,
};

use crate::abi::{HeaderMap, LogLevel, Properties, Status, Value};
use crate::envoy::{self, RequestHead};
use crate::event::Message;
use crate::vm::call_out::{CallResponse, Cluster, DelayedResponse, GrpcEvent};
use crate::vm::fault::{Fault, FaultPoint};
use crate::vm::options::ForeignResult;
use crate::vm::shared;

/// Converts a peer to what Envoy sees. An address gets a port, as every connection has one.
pub fn envoy_peer(peer: Peer) -> envoy::Peer {
    match peer {
        Peer::Ip(address) => envoy::Peer::Ip(SocketAddr::new(address, CLIENT_PORT)),
        Peer::Unix => envoy::Peer::Unix,
        Peer::Unknown => envoy::Peer::FromHeader,
    }
}

/// Converts a message to what an upstream receives.
pub fn received(message: &Message) -> UpstreamRequest {
    let pseudo = |name| message.headers.get(name).map(latin1::text);
    UpstreamRequest {
        method: pseudo(":method").unwrap_or_default(),
        target: pseudo(":path").unwrap_or_default(),
        host: pseudo(":authority"),
        headers: fields(&message.headers),
        body: latin1::text(&message.body),
        trailers: lines(&message.trailers),
    }
}

/// Converts a message to what a client receives. An invalid status becomes 0.
pub fn reply(message: &Message) -> DownstreamResponse {
    let status = message.headers.get(":status").map(latin1::text);
    DownstreamResponse {
        status: status
            .and_then(|status| status.parse().ok())
            .unwrap_or_default(),
        headers: fields(&message.headers),
        body: latin1::text(&message.body),
        trailers: lines(&message.trailers),
    }
}

/// Returns the lines without pseudo-headers.
fn fields(map: &HeaderMap) -> Vec<(String, String)> {
    let mut lines = lines(map);
    lines.retain(|(name, _)| !name.starts_with(':'));
    lines
}

pub(super) fn lines(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| (latin1::text(name), latin1::text(value)))
        .collect()
}

/// Converts a request's headers to what Envoy presents. `Host` lines among the fields belong to the request's host: Envoy
/// joins them with a comma in HTTP/1 and drops them in favor of `:authority` in HTTP/2.
pub(super) fn request_headers(request: &Request) -> HeaderMap {
    let (hosts, fields): (Vec<_>, Vec<_>) = latin1::fields(&request.headers)
        .into_iter()
        .partition(|(name, _)| name.eq_ignore_ascii_case(b"host"));
    let host = request.host.as_deref().map(latin1::bytes);
    let further = hosts.into_iter().map(|(_, value)| value);
    let hosts: Vec<Vec<u8>> = match request.http {
        Version::Http2 => host.into_iter().chain(further).take(1).collect(),
        Version::Http10 | Version::Http11 => host.into_iter().chain(further).collect(),
    };
    let host = (!hosts.is_empty()).then(|| hosts.join(&b","[..]));
    let head = RequestHead {
        method: &latin1::bytes(&request.method),
        target: &latin1::bytes(&request.target),
        host: host.as_deref(),
        is_tls: request.tls,
    };
    let mut map = envoy::request_headers(head, borrow(&fields));
    let cookies = map.get_all("cookie");
    // RFC 9113 §8.2.3: HTTP/2 may split cookies into several lines.
    if request.http == Version::Http2 && cookies.len() > 1 {
        let cookies = cookies.join(&b"; "[..]);
        map.replace(b"cookie", &cookies);
    }
    map
}

/// Builds the properties of a connection or request. The listener records the peer under `peer_key`.
pub(super) fn properties(
    peer: Peer,
    is_tls: bool,
    own: &[Property],
    peer_key: Option<&str>,
) -> Properties {
    let peer = envoy_peer(peer);
    let mut properties = envoy::connection_properties(peer, is_tls);
    if let Some(key) = peer_key {
        properties = envoy::with_recorded_peer(properties, key, peer);
    }
    for property in own {
        let path: Vec<&str> = property.path.iter().map(String::as_str).collect();
        properties = properties.with(&path, value(&property.value));
    }
    properties
}

pub(super) fn borrow(fields: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
}

fn value(typed: &TypedValue) -> Value {
    match typed {
        TypedValue::Bool(value) => Value::Bool(*value),
        TypedValue::Double(value) => Value::Double(*value),
        TypedValue::Int(value) => Value::Int(*value),
        TypedValue::List(items) => {
            let mut map = HeaderMap::default();
            for item in items {
                map.add_verbatim(&latin1::bytes(item), b"");
            }
            Value::Map(map)
        }
        TypedValue::Map(lines) => {
            let mut map = HeaderMap::default();
            for (name, value) in latin1::fields(lines) {
                map.add_verbatim(&name, &value);
            }
            Value::Map(map)
        }
        TypedValue::Text(text) => Value::Bytes(latin1::bytes(text)),
        TypedValue::Uint(value) => Value::Uint(*value),
    }
}

pub(super) fn log_level(level: Level) -> LogLevel {
    match level {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
        Level::Critical => LogLevel::Critical,
    }
}

pub(super) fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Trace => Level::Trace,
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warn => Level::Warn,
        LogLevel::Error => Level::Error,
        LogLevel::Critical => Level::Critical,
    }
}

pub(super) fn metric_kind(kind: shared::MetricKind) -> MetricKind {
    match kind {
        shared::MetricKind::Counter => MetricKind::Counter,
        shared::MetricKind::Gauge => MetricKind::Gauge,
        shared::MetricKind::Histogram => MetricKind::Histogram,
    }
}

/// Converts the services that a plugin may call, with their responses in order.
pub(super) fn clusters(answers: &BTreeMap<String, Vec<CallAnswer>>) -> Vec<Cluster> {
    answers
        .iter()
        .map(|(name, answers)| Cluster {
            name: name.clone(),
            responses: answers.iter().map(delayed_response).collect(),
        })
        .collect()
}

/// Converts the results of foreign functions.
pub(super) fn foreign_functions(
    answers: &BTreeMap<String, ForeignAnswer>,
) -> BTreeMap<String, ForeignResult> {
    let result = |answer: &ForeignAnswer| ForeignResult {
        status: status(answer.status),
        bytes: latin1::bytes(&answer.result),
    };
    let answers = answers.iter();
    answers
        .map(|(name, answer)| (name.clone(), result(answer)))
        .collect()
}

/// Converts a fault of the host.
pub(super) fn fault(fault: &InjectedFault) -> Fault {
    let at = match fault.status {
        Some(given) => FaultPoint::HostCall {
            function: fault.at.clone(),
            status: status(given),
        },
        None if fault.is_at_callback() => FaultPoint::Callback(fault.at.clone()),
        None => FaultPoint::Allocation,
    };
    Fault {
        at,
        occurrence: fault.occurrence,
    }
}

fn status(status: fluxlit_cases::Status) -> Status {
    use fluxlit_cases::Status as Given;
    match status {
        Given::Ok => Status::Ok,
        Given::NotFound => Status::NotFound,
        Given::BadArgument => Status::BadArgument,
        Given::SerializationFailure => Status::SerializationFailure,
        Given::ParseFailure => Status::ParseFailure,
        Given::InvalidMemoryAccess => Status::InvalidMemoryAccess,
        Given::Empty => Status::Empty,
        Given::CasMismatch => Status::CasMismatch,
        Given::InternalFailure => Status::InternalFailure,
        Given::Unimplemented => Status::Unimplemented,
    }
}

fn delayed_response(answer: &CallAnswer) -> DelayedResponse {
    let delay = Duration::from_millis(answer.delay_ms);
    let response = match (answer.fails, &answer.grpc) {
        (Some(CallFailure::NoHeaders), _) => CallResponse::NoHeaders,
        (Some(CallFailure::Refused), _) => CallResponse::Refused,
        (Some(CallFailure::Reset), _) => CallResponse::Reset,
        (Some(CallFailure::TimeOut), _) => CallResponse::TimedOut,
        (None, Some(messages)) => CallResponse::Grpc(grpc_events(answer, messages)),
        (None, None) => CallResponse::Http {
            headers: envoy::response_headers(
                answer.status.unwrap_or(200),
                borrow(&latin1::fields(&answer.headers)),
            ),
            body: latin1::bytes(&answer.body),
            trailers: map(&answer.trailers),
        },
    };
    DelayedResponse { delay, response }
}

fn grpc_events(answer: &CallAnswer, messages: &[String]) -> Vec<GrpcEvent> {
    let mut events = vec![GrpcEvent::InitialMetadata(map(&answer.headers))];
    events.extend(
        messages
            .iter()
            .map(|message| GrpcEvent::Message(latin1::bytes(message))),
    );
    events.push(GrpcEvent::TrailingMetadata(map(&answer.trailers)));
    events.push(GrpcEvent::Close {
        status: answer.grpc_status.unwrap_or(0),
        message: answer.grpc_message.clone(),
    });
    events
}

/// Builds a map from lines without Envoy's changes.
fn map(lines: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::default();
    for (name, value) in latin1::fields(lines) {
        map.add(&name, &value);
    }
    map
}

/// Any port except 0, which would mean that the address came from a header.
const CLIENT_PORT: u16 = 49152;
