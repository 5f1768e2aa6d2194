//! What are the words of a case file in this host's types, and the other way round?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use fluxlit_cases::{
    CallAnswer, Failing, Level, MetricKind, Peer, Property, Received, Reply, Request, Typed,
    Version, latin1,
};

use crate::abi::header_map::HeaderMap;
use crate::abi::property::{Properties, Value};
use crate::abi::{LogLevel, Status};
use crate::envoy::{self, RequestHead};
use crate::plugin::ForeignAnswer;
use crate::process;
use crate::vm::call_out::{self, GrpcEvent};
use crate::vm::outcome::Message;

/// The peer as Envoy sees it. An address comes with a port, as every connection does.
pub fn envoy_peer(peer: Peer) -> envoy::Peer {
    match peer {
        Peer::Ip(address) => envoy::Peer::Ip(SocketAddr::new(address, CLIENT_PORT)),
        Peer::Unix => envoy::Peer::Unix,
        Peer::Unknown => envoy::Peer::FromHeader,
    }
}

/// A message as an upstream receives it.
pub fn received(message: &Message) -> Received {
    let pseudo = |name| message.headers.get(name).map(latin1::text);
    Received {
        method: pseudo(":method").unwrap_or_default(),
        target: pseudo(":path").unwrap_or_default(),
        host: pseudo(":authority"),
        headers: fields(&message.headers),
        body: latin1::text(&message.body),
        trailers: lines(&message.trailers),
    }
}

/// A message as a client gets it. A status that is no number becomes 0.
pub fn reply(message: &Message) -> Reply {
    let status = message.headers.get(":status").map(latin1::text);
    Reply {
        status: status
            .and_then(|status| status.parse().ok())
            .unwrap_or_default(),
        headers: fields(&message.headers),
        body: latin1::text(&message.body),
        trailers: lines(&message.trailers),
    }
}

/// The lines without pseudo-headers.
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

/// Presents a request's headers. `Host` lines among the fields count as the request's host: HTTP/1 has Envoy join them
/// with a comma, HTTP/2 has it drop them in favour of `:authority`.
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
    // RFC 9113 §8.2.3: HTTP/2 may have cut them apart.
    if request.http == Version::Http2 && cookies.len() > 1 {
        let cookies = cookies.join(&b"; "[..]);
        map.replace(b"cookie", &cookies);
    }
    map
}

/// What a connection or a request knows. `recorded_as` is where the listener records the peer.
pub(super) fn properties(
    peer: Peer,
    is_tls: bool,
    own: &[Property],
    recorded_as: Option<&str>,
) -> Properties {
    let peer = envoy_peer(peer);
    let mut properties = envoy::connection_properties(peer, is_tls);
    if let Some(key) = recorded_as {
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

fn value(typed: &Typed) -> Value {
    match typed {
        Typed::Bool(value) => Value::Bool(*value),
        Typed::Double(value) => Value::Double(*value),
        Typed::Int(value) => Value::Int(*value),
        Typed::List(items) => {
            let mut map = HeaderMap::default();
            for item in items {
                map.add_exactly(&latin1::bytes(item), b"");
            }
            Value::Map(map)
        }
        Typed::Map(lines) => {
            let mut map = HeaderMap::default();
            for (name, value) in latin1::fields(lines) {
                map.add_exactly(&name, &value);
            }
            Value::Map(map)
        }
        Typed::Text(text) => Value::Bytes(latin1::bytes(text)),
        Typed::Uint(value) => Value::Uint(*value),
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

pub(super) fn metric_kind(kind: process::MetricKind) -> MetricKind {
    match kind {
        process::MetricKind::Counter => MetricKind::Counter,
        process::MetricKind::Gauge => MetricKind::Gauge,
        process::MetricKind::Histogram => MetricKind::Histogram,
    }
}

/// The services that a plugin may call, with their answers in order.
pub(super) fn upstreams(answers: &BTreeMap<String, Vec<CallAnswer>>) -> Vec<call_out::Upstream> {
    answers
        .iter()
        .map(|(name, answers)| call_out::Upstream {
            name: name.clone(),
            answers: answers.iter().map(delayed_answer).collect(),
        })
        .collect()
}

/// What foreign functions answer in place of Envoy's own.
pub(super) fn foreign_functions(
    answers: &BTreeMap<String, fluxlit_cases::ForeignAnswer>,
) -> BTreeMap<String, ForeignAnswer> {
    let answer = |answer: &fluxlit_cases::ForeignAnswer| ForeignAnswer {
        status: status(answer.status),
        result: latin1::bytes(&answer.result),
    };
    let answers = answers.iter();
    answers
        .map(|(name, given)| (name.clone(), answer(given)))
        .collect()
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

fn delayed_answer(answer: &CallAnswer) -> call_out::DelayedAnswer {
    let delay = Duration::from_millis(answer.delay_ms);
    let answer = match (answer.fails, &answer.grpc) {
        (Some(Failing::NoHeaders), _) => call_out::Answer::NoHeaders,
        (Some(Failing::Refused), _) => call_out::Answer::Refused,
        (Some(Failing::Reset), _) => call_out::Answer::Reset,
        (Some(Failing::TimeOut), _) => call_out::Answer::TimedOut,
        (None, Some(messages)) => call_out::Answer::Grpc(grpc_events(answer, messages)),
        (None, None) => call_out::Answer::Http {
            headers: envoy::response_headers(
                answer.status.unwrap_or(200),
                borrow(&latin1::fields(&answer.headers)),
            ),
            body: latin1::bytes(&answer.body),
            trailers: map(&answer.trailers),
        },
    };
    call_out::DelayedAnswer { delay, answer }
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

/// The lines as they are, for maps that Envoy does not touch.
fn map(lines: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::default();
    for (name, value) in latin1::fields(lines) {
        map.add(&name, &value);
    }
    map
}

/// Any port but 0, which would say that the address came from a header.
const CLIENT_PORT: u16 = 49152;
