//! Implements the host functions for HTTP and gRPC call-outs.
//!
//! A call belongs to the plugin, whichever stream made it, and outlives the stream. A cluster that is not configured is
//! `BAD_ARGUMENT` for HTTP and `PARSE_FAILURE` for gRPC, where it may be a name or a serialized `GrpcService`. The id of a
//! call contains its kind: an id of the wrong kind is `BAD_ARGUMENT`, an unknown id `NOT_FOUND`.

use std::time::Duration;

use super::function::Kind::I32;
use super::function::{HostFunction, abi};
use super::headers;
use crate::abi::{HeaderMap, MapId, Status};
use crate::vm::call_out::{CallKind, CallOut};
use crate::vm::guest::{Arguments, Guest, HostCallResult};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    abi("proxy_get_status", &[I32, I32, I32], status),
    abi(
        "proxy_http_call",
        &[I32, I32, I32, I32, I32, I32, I32, I32, I32, I32],
        http_call,
    ),
    abi(
        "proxy_grpc_call",
        &[I32, I32, I32, I32, I32, I32, I32, I32, I32, I32, I32, I32],
        grpc_call,
    ),
    abi(
        "proxy_grpc_stream",
        &[I32, I32, I32, I32, I32, I32, I32, I32, I32],
        grpc_stream,
    ),
    abi("proxy_grpc_send", &[I32, I32, I32, I32], grpc_send),
    abi("proxy_grpc_cancel", &[I32], |guest, arguments| {
        Ok(guest.host().calls.cancel(arguments.u32(0))?)
    }),
    abi("proxy_grpc_close", &[I32], |guest, arguments| {
        Ok(guest.host().calls.close(arguments.u32(0))?)
    }),
];

fn status(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let (code, text) = guest.host().status.clone();
    guest.write_u32(arguments.u32(0), code)?;
    guest.return_bytes(text.as_bytes(), arguments.u32(1), arguments.u32(2))
}

fn http_call(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let cluster = guest.read(arguments.u32(0), arguments.u32(1))?;
    let headers = guest.read(arguments.u32(2), arguments.u32(3))?;
    let body = guest.read(arguments.u32(4), arguments.u32(5))?;
    let trailers = guest.read(arguments.u32(6), arguments.u32(7))?;
    let timeout = arguments.u32(8);
    // Check the pointer for the id before the call is made.
    guest.write_u32(arguments.u32(9), 0)?;
    let profile = guest.host().options.profile;
    let mut headers = headers::parse(&headers, MapId::RequestHeaders, profile);
    let cluster = known_cluster(guest, &cluster).ok_or(Status::BadArgument)?;
    let has_required = [":method", ":path", ":authority"]
        .iter()
        .all(|name| headers.get(name).is_some());
    if timeout > MAX_TIMEOUT || !has_required {
        return Err(Status::BadArgument.into());
    }
    let trailers = if guest.host().options.profile.sends_call_trailers() {
        HeaderMap::parse(&trailers)
    } else {
        HeaderMap::default()
    };
    if !body.is_empty() {
        headers.replace(b"content-length", body.len().to_string().as_bytes());
    }
    let call = CallOut {
        id: 0,
        kind: CallKind::Http,
        cluster,
        headers,
        body,
        trailers,
        timeout: to_timeout(timeout),
    };
    let id = open(guest, call);
    guest.write_u32(arguments.u32(9), id)?;
    Ok(())
}

fn grpc_call(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let (cluster, service, method, headers) = grpc_target(guest, arguments)?;
    let body = guest.read(arguments.u32(8), arguments.u32(9))?;
    guest.write_u32(arguments.u32(11), 0)?;
    let call = CallOut {
        id: 0,
        kind: CallKind::GrpcCall { service, method },
        cluster,
        headers,
        body,
        trailers: HeaderMap::default(),
        timeout: to_timeout(arguments.u32(10)),
    };
    let id = open(guest, call);
    guest.write_u32(arguments.u32(11), id)?;
    Ok(())
}

fn grpc_stream(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let (cluster, service, method, headers) = grpc_target(guest, arguments)?;
    guest.write_u32(arguments.u32(8), 0)?;
    let call = CallOut {
        id: 0,
        kind: CallKind::GrpcStream { service, method },
        cluster,
        headers,
        body: Vec::new(),
        trailers: HeaderMap::default(),
        timeout: None,
    };
    let id = open(guest, call);
    guest.write_u32(arguments.u32(8), id)?;
    Ok(())
}

fn grpc_send(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let message = guest.read(arguments.u32(1), arguments.u32(2))?;
    let id = arguments.u32(0);
    let host = guest.host();
    host.calls.send(id, &message)?;
    // Add the message to the recorded call as well.
    let records = host.records.values_mut();
    let mut calls = records.flat_map(|record| &mut record.call_outs);
    if let Some(call) = calls.find(|call| call.id == id) {
        call.body.extend(message);
    }
    Ok(())
}

/// Reads the arguments that both kinds of gRPC calls begin with: cluster, service, method and initial metadata.
fn grpc_target(
    guest: &mut Guest<'_>,
    arguments: &Arguments<'_>,
) -> Result<(String, String, String, HeaderMap), Status> {
    let cluster = guest.read(arguments.u32(0), arguments.u32(1))?;
    let service = guest.read(arguments.u32(2), arguments.u32(3))?;
    let method = guest.read(arguments.u32(4), arguments.u32(5))?;
    let metadata = guest.read(arguments.u32(6), arguments.u32(7))?;
    let named = known_cluster(guest, &cluster);
    let cluster = named
        .or_else(|| known_cluster(guest, cluster_of_service(&cluster)?))
        .ok_or(Status::ParseFailure)?;
    Ok((
        cluster,
        String::from_utf8_lossy(&service).into_owned(),
        String::from_utf8_lossy(&method).into_owned(),
        HeaderMap::parse(&metadata),
    ))
}

/// Returns the name of a cluster if it is configured.
fn known_cluster(guest: &mut Guest<'_>, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    guest
        .host()
        .calls
        .has_cluster(name)
        .then(|| name.to_owned())
}

/// Returns the cluster in a serialized `envoy.config.core.v3.GrpcService`: `envoy_grpc` (1), `cluster_name` (1).
fn cluster_of_service(bytes: &[u8]) -> Option<&[u8]> {
    first_field(first_field(bytes)?)
}

/// Returns the contents of field 1 if it is the first field and shorter than 128 bytes.
fn first_field(bytes: &[u8]) -> Option<&[u8]> {
    const FIELD_1_BYTES: u8 = 0x0a;
    let [FIELD_1_BYTES, length @ 0..=0x7f, rest @ ..] = bytes else {
        return None;
    };
    rest.get(..usize::from(*length))
}

/// Opens and records a call; returns its id.
fn open(guest: &mut Guest<'_>, call: CallOut) -> u32 {
    let host = guest.host();
    let (plugin, now, profile) = (host.plugin_context(), host.now(), host.options.profile);
    let mut recorded = call.clone();
    let chain = host.chain.clone().unwrap_or_default();
    let id = host.calls.open(plugin, call, chain, now, profile);
    recorded.id = id;
    host.record().call_outs.push(recorded);
    id
}

fn to_timeout(milliseconds: u32) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()))
}

/// Envoy reads the timeout as a signed number.
const MAX_TIMEOUT: u32 = 0x7fff_ffff;
