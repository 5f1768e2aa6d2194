//! Computes the properties that Envoy derives from the stream: its messages, sizes, times, connection and route.
//!
//! Measured in Envoy 1.40 in each callback. What belongs to a header map exists only while the map can be read, see
//! [`StreamState::readable_map`]; what belongs to the upstream exists once the request's headers have been sent to it. Where
//! Envoy has values of its configuration or of its sockets, this host has constants, which `docs/host-test.md` lists; a test
//! replaces them with its own properties.

use crate::abi::{HeaderMap, MapId, Status, Value};
use crate::envoy::local_reply::grpc_status_for;
use crate::envoy::profile::Profile;
use crate::vm::state::StreamState;

/// Returns the property at `path`, whose segments are joined by zero bytes.
pub(super) fn of_stream(
    stream: &StreamState,
    path: &[u8],
    profile: Profile,
) -> Result<Vec<u8>, Status> {
    let path: Vec<&[u8]> = path.split(|byte| *byte == 0).collect();
    let value = match path.as_slice() {
        [b"request", rest @ ..] => of_request(stream, rest, profile),
        [b"response", rest @ ..] => of_response(stream, rest, profile),
        [b"connection", name] => of_connection(stream, name),
        [b"connection_id"] => Some(Value::Uint(stream.connection_id)),
        [b"destination", b"address"] => Some(text(DESTINATION)),
        [b"destination", b"port"] => Some(Value::Int(DESTINATION_PORT)),
        [b"upstream", name] => of_upstream(stream, name),
        [b"xds", name] => return of_route(stream, name),
        [b"metadata"] => Some(text("")),
        _ => None,
    };
    value.map(|value| value.encode()).ok_or(Status::NotFound)
}

fn of_request(stream: &StreamState, path: &[&[u8]], profile: Profile) -> Option<Value> {
    let headers = stream.readable_map(MapId::RequestHeaders, profile);
    let field = |name| Some(Value::Bytes(headers?.get(name)?.to_vec()));
    let target = || headers?.get(":path");
    let headers_size = || headers.map_or(0, HeaderMap::byte_size) as u64;
    Some(match path {
        [b"path"] => field(":path")?,
        [b"url_path"] => {
            let path = target()?.split(|byte| *byte == b'?').next()?;
            Value::Bytes(path.to_vec())
        }
        [b"query"] => {
            let mut parts = target()?.splitn(2, |byte| *byte == b'?').skip(1);
            let query = parts.next().unwrap_or_default();
            let query = query.split(|byte| *byte == b'#').next()?;
            Value::Bytes(query.to_vec())
        }
        [b"host"] => field(":authority")?,
        [b"method"] => field(":method")?,
        [b"scheme"] => field(":scheme")?,
        [b"id"] => field("x-request-id")?,
        [b"referer"] => field("referer")?,
        [b"useragent"] => field("user-agent")?,
        [b"headers"] => map(headers),
        [b"headers", name] => Value::Bytes(headers?.get_bytes(name)?.to_vec()),
        [b"headers_bytes"] => uint_as_int(headers_size()),
        [b"protocol"] => text("HTTP/1.1"),
        [b"size"] => match headers.and_then(|headers| headers.get("content-length")) {
            Some(length) => Value::Int(std::str::from_utf8(length).ok()?.trim().parse().ok()?),
            None => uint_as_int(stream.received),
        },
        [b"total_size"] => uint_as_int(stream.received + headers_size()),
        [b"time"] => Value::Uint(stream.opened_at),
        // The request is complete for Envoy when the stream ends.
        [b"duration"] if stream.is_logging => uint_as_int(0),
        _ => return None,
    })
}

fn of_response(stream: &StreamState, path: &[&[u8]], profile: Profile) -> Option<Value> {
    let headers = stream.readable_map(MapId::ResponseHeaders, profile);
    let trailers = stream.readable_map(MapId::ResponseTrailers, profile);
    let size = |map: Option<&HeaderMap>| map.map_or(0, HeaderMap::byte_size) as u64;
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.trim().parse::<i64>().ok();
    let code = || number(stream.response_code.as_deref()?);
    Some(match path {
        [b"code"] => Value::Int(code()?),
        [b"code_details"] => {
            let details = stream.code_details.as_deref();
            text(details.or(stream.response_code.is_some().then_some("via_upstream"))?)
        }
        // No flag describes anything that happens in this host.
        [b"flags"] => Value::Int(0),
        [b"grpc_status"] => {
            let of = |map: Option<&HeaderMap>| number(map?.get("grpc-status")?);
            let of_code = || Some(i64::from(grpc_status_for(u32::try_from(code()?).ok()?)));
            Value::Int(of(trailers).or_else(|| of(headers)).or_else(of_code)?)
        }
        [b"headers"] => map(headers),
        [b"headers", name] => Value::Bytes(headers?.get_bytes(name)?.to_vec()),
        [b"headers_bytes"] => uint_as_int(size(headers)),
        [b"trailers"] => map(trailers),
        [b"trailers", name] => Value::Bytes(trailers?.get_bytes(name)?.to_vec()),
        [b"size"] => uint_as_int(stream.sent),
        [b"total_size"] => uint_as_int(stream.sent + size(headers) + size(trailers)),
        [b"backend_latency"] => uint_as_int(
            stream
                .response_ended_at?
                .saturating_sub(stream.first_sent_at?),
        ),
        _ => return None,
    })
}

fn of_connection(stream: &StreamState, name: &[u8]) -> Option<Value> {
    match name {
        b"id" => Some(Value::Uint(stream.connection_id)),
        b"mtls" => Some(Value::Bool(false)),
        b"requested_server_name" => Some(text("")),
        _ => None,
    }
}

fn of_upstream(stream: &StreamState, name: &[u8]) -> Option<Value> {
    let is_sent = stream.first_sent_at.is_some();
    let is_connected = is_sent && stream.response_headers.is_some();
    match name {
        b"num_endpoints" => Some(Value::Uint(1)),
        b"request_attempt_count" => Some(Value::Uint(u64::from(is_sent))),
        b"address" if is_sent => Some(text(UPSTREAM)),
        b"port" if is_sent => Some(Value::Int(UPSTREAM_PORT)),
        b"locality" | b"transport_failure_reason" if is_sent => Some(text("")),
        b"local_address" if is_connected => Some(text(UPSTREAM_LOCAL)),
        b"cx_pool_ready_duration" if is_connected => Some(Value::Int(0)),
        _ => None,
    }
}

/// Returns a property of the route, the cluster or the listener. Their metadata are empty messages.
fn of_route(stream: &StreamState, name: &[u8]) -> Result<Vec<u8>, Status> {
    Ok(match name {
        b"cluster_name" => CLUSTER.as_bytes().to_vec(),
        b"virtual_host_name" => VIRTUAL_HOST.as_bytes().to_vec(),
        b"cluster_metadata"
        | b"filter_chain_name"
        | b"listener_metadata"
        | b"route_metadata"
        | b"route_name"
        | b"virtual_host_metadata" => Vec::new(),
        b"listener_direction" => Value::Int(0).encode(),
        b"upstream_host_locality_metadata" | b"upstream_host_metadata"
            if stream.first_sent_at.is_some() =>
        {
            return Err(Status::SerializationFailure);
        }
        _ => return Err(Status::NotFound),
    })
}

/// A map that cannot be read is an empty map.
fn map(map: Option<&HeaderMap>) -> Value {
    match map {
        Some(map) if !map.is_empty() => Value::Map(map.clone()),
        _ => Value::Bytes(vec![0; 4]),
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn uint_as_int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

const DESTINATION: &str = "192.0.2.1:443";
const DESTINATION_PORT: i64 = 443;
const UPSTREAM: &str = "192.0.2.2:8080";
const UPSTREAM_PORT: i64 = 8080;
const UPSTREAM_LOCAL: &str = "192.0.2.1:49152";
const CLUSTER: &str = "upstream";
const VIRTUAL_HOST: &str = "all";
