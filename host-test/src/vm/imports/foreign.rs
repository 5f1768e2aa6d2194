//! What do Envoy's foreign functions do?
//!
//! Those that a test can see the effect of, as measured in Envoy 1.40: statuses, results, and the values that are found in
//! the filter state afterwards. Those that need keys (`sign`, `verify_signature`) or Envoy's expressions (`expr_create` and
//! its kin) are not here; a test may answer for them.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use prost::Message;

use crate::abi::Status;
use crate::vm::state::Host;

/// A foreign function: what it answers to its arguments.
pub(crate) type Function = fn(&mut Host, &[u8]) -> Result<Vec<u8>, Status>;

/// Envoy's function of that name.
pub(crate) fn named(name: &[u8]) -> Option<Function> {
    Some(match name {
        // There are no routes here, so nothing is to be cleared.
        b"clear_route_cache" => |_, _| Ok(Vec::new()),
        b"compress" => |_, bytes| read_all(ZlibEncoder::new(bytes, Compression::default())),
        b"declare_property" => declare_property,
        b"set_envoy_filter_state" => set_filter_state,
        b"uncompress" => |_, bytes| read_all(ZlibDecoder::new(bytes)),
        _ => return None,
    })
}

fn read_all(from: impl Read) -> Result<Vec<u8>, Status> {
    let mut bytes = Vec::new();
    let read = from.take(LONGEST).read_to_end(&mut bytes);
    read.map_err(|_| Status::SerializationFailure)?;
    Ok(bytes)
}

/// `envoy.source.extensions.common.wasm.DeclarePropertyArguments`, as far as a filter can tell.
#[derive(Message)]
struct DeclareProperty {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    readonly: bool,
}

/// Only what the plugin itself declares counts, once a name.
fn declare_property(host: &mut Host, arguments: &[u8]) -> Result<Vec<u8>, Status> {
    let DeclareProperty { name, readonly } = decode(arguments)?;
    if host.stream().is_some() {
        return Ok(Vec::new());
    }
    let plugin = host.plugin().ok_or(Status::BadArgument)?;
    if plugin.declared.contains_key(name.as_bytes()) {
        return Err(Status::BadArgument);
    }
    plugin.declared.insert(name.into_bytes(), readonly);
    Ok(Vec::new())
}

/// `envoy.source.extensions.common.wasm.SetEnvoyFilterStateArguments`, without the life span, which is the stream's.
#[derive(Message)]
struct SetFilterState {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, tag = "2")]
    value: String,
}

fn set_filter_state(host: &mut Host, arguments: &[u8]) -> Result<Vec<u8>, Status> {
    let SetFilterState { path, value } = decode(arguments)?;
    let stream = host.stream().ok_or(Status::NotFound)?;
    let object = object(&path, &value)?;
    stream.filter_state.set(path.into_bytes(), object);
    Ok(Vec::new())
}

/// The value that Envoy makes of a text for a key that it knows.
fn object(key: &str, text: &str) -> Result<Vec<u8>, Status> {
    let value = match key {
        "envoy.bool" => {
            let lower = text.to_ascii_lowercase();
            match lower.as_str() {
                "1" | "t" | "true" | "y" | "yes" => "true".to_owned(),
                "0" | "f" | "false" | "n" | "no" => "false".to_owned(),
                _ => return Err(Status::BadArgument),
            }
        }
        "envoy.tcp_proxy.disable_tunneling" => (text == "true").to_string(),
        "envoy.ratelimit.hits_addend" | "envoy.upstream.dynamic_port" => number::<u32>(text)?,
        "envoy.tcp_proxy.per_connection_idle_timeout_ms" => number::<u64>(text)?,
        "envoy.network.ip" => {
            let address: IpAddr = text.parse().map_err(|_| Status::BadArgument)?;
            SocketAddr::new(address, 0).to_string()
        }
        "envoy.network.transport_socket.original_dst_address"
        | "envoy.filters.listener.original_dst.local_ip"
        | "envoy.filters.listener.original_dst.remote_ip" => {
            let _: SocketAddr = text.parse().map_err(|_| Status::BadArgument)?;
            return Ok(vec![0; 4]);
        }
        "envoy.hashable_string"
        | "envoy.network.application_protocols"
        | "envoy.network.network_namespace"
        | "envoy.network.upstream_server_name"
        | "envoy.network.upstream_subject_alt_names"
        | "envoy.string"
        | "envoy.tcp_proxy.cluster"
        | "envoy.upstream.dynamic_host" => text.to_owned(),
        _ => return Err(Status::NotFound),
    };
    Ok(value.into_bytes())
}

fn number<N: std::str::FromStr + ToString>(text: &str) -> Result<String, Status> {
    let number: N = text.trim().parse().map_err(|_| Status::BadArgument)?;
    Ok(number.to_string())
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Status> {
    M::decode(bytes).map_err(|_| Status::BadArgument)
}

/// A result that is longer would not fit into a module's memory.
const LONGEST: u64 = 1 << 30;
