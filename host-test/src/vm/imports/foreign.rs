//! Implements those of Envoy's foreign functions whose effects a test can observe.
//!
//! Measured in Envoy 1.40: statuses, results, and the values in the filter state afterwards. Functions that need keys
//! (`sign`, `verify_signature`) or Envoy's expressions (`expr_create` and related ones) are not implemented; a test may
//! define their results in the start options.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use prost::Message;

use crate::abi::Status;
use crate::vm::state::HostState;

/// A foreign function, which returns bytes for its arguments.
pub(crate) type Function = fn(&mut HostState, &[u8]) -> Result<Vec<u8>, Status>;

/// Returns Envoy's function of this name.
pub(crate) fn named(name: &[u8]) -> Option<Function> {
    Some(match name {
        // This host has no routes, so there is no cache to clear.
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
    let read = from.take(MAX_RESULT).read_to_end(&mut bytes);
    read.map_err(|_| Status::SerializationFailure)?;
    Ok(bytes)
}

/// The fields of `envoy.source.extensions.common.wasm.DeclarePropertyArguments` that have an observable effect.
#[derive(Message)]
struct DeclareProperty {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    readonly: bool,
}

/// Declares a property. Only declarations in the plugin's own context count, once for each name.
fn declare_property(host: &mut HostState, arguments: &[u8]) -> Result<Vec<u8>, Status> {
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

/// `envoy.source.extensions.common.wasm.SetEnvoyFilterStateArguments` without the life span, which is always the stream.
#[derive(Message)]
struct SetFilterState {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, tag = "2")]
    value: String,
}

fn set_filter_state(host: &mut HostState, arguments: &[u8]) -> Result<Vec<u8>, Status> {
    let SetFilterState { path, value } = decode(arguments)?;
    let stream = host.stream().ok_or(Status::NotFound)?;
    let object = object(&path, &value)?;
    stream.filter_state.set(path.into_bytes(), object);
    Ok(Vec::new())
}

/// Returns the value that Envoy stores for a text under a key that it knows.
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

/// The maximum size of a result. A longer one would not fit into a module's memory.
const MAX_RESULT: u64 = 1 << 30;
