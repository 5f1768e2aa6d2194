//! Implements the host functions for properties.
//!
//! A path is looked up among the properties of the plugin, the filter state, the properties that a test gives the stream, and
//! those derived from it, see [`attributes`]; in Envoy all of these are built in and cannot be overwritten. A property that a module sets is stored
//! in the filter state under the whole path, but is found only by a path of one segment, or by its key below
//! `filter_state`, as measured in Envoy 1.40.

use super::attributes;
use super::function::Kind::I32;
use super::function::{HostFunction, abi};
use crate::abi::{Status, property};
use crate::envoy::filter_state;
use crate::vm::guest::{Arguments, Guest, HostCallResult};
use crate::vm::state::{HostState, StreamState};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    abi("proxy_get_property", &[I32, I32, I32, I32], get),
    abi("proxy_set_property", &[I32, I32, I32, I32], set),
];

fn get(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let path = guest.read(arguments.u32(0), arguments.u32(1))?;
    let path = property::strip_terminator(&path);
    if path.is_empty() || property::is_group(path) && guest.host().stream().is_some() {
        return Err(Status::SerializationFailure.into());
    }
    let value = find(guest.host(), path)?;
    guest.return_bytes(&value, arguments.u32(2), arguments.u32(3))
}

fn set(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let path = guest.read(arguments.u32(0), arguments.u32(1))?;
    let value = guest.read(arguments.u32(2), arguments.u32(3))?;
    let host = guest.host();
    let is_readonly = host
        .plugin()
        .is_some_and(|plugin| plugin.declared.get(&path) == Some(&true));
    let state = &host.stream().ok_or(Status::NotFound)?.filter_state;
    let key = filter_state::property_key(&path);
    if is_readonly && state.get(&key).is_some() {
        return Err(Status::BadArgument.into());
    }
    state.set(key, value);
    Ok(())
}

fn find(host: &mut HostState, path: &[u8]) -> Result<Vec<u8>, Status> {
    let profile = host.options.profile;
    if let Some(value) = of_plugin(host, path) {
        return Ok(value.as_bytes().to_vec());
    }
    // Envoy's description of itself, in every context.
    if path == b"xds\0node" {
        return Ok(Vec::new());
    }
    let stream = host.stream().ok_or(Status::NotFound)?;
    let known = of_filter_state(stream, path).or_else(|| stream.properties.get(path));
    if let Some(value) = known {
        return Ok(value);
    }
    let derived = attributes::of_stream(stream, path, profile);
    if derived != Err(Status::NotFound) {
        return derived;
    }
    let is_found = !path.contains(&0) || profile.finds_own_paths();
    let key = filter_state::property_key(path);
    let own = is_found.then(|| stream.filter_state.get(&key)).flatten();
    own.ok_or(Status::NotFound)
}

/// Returns a value of the filter state by its key.
fn of_filter_state(stream: &StreamState, path: &[u8]) -> Option<Vec<u8>> {
    let key = path.strip_prefix(b"filter_state\0")?;
    if UNREADABLE.contains(&key) {
        return None;
    }
    stream.filter_state.get(key)
}

/// Keys whose values Envoy stores in a form that is not text.
const UNREADABLE: [&[u8]; 1] = [b"envoy.network.application_protocols"];

/// Returns a property of the plugin.
fn of_plugin<'a>(host: &'a mut HostState, path: &[u8]) -> Option<&'a str> {
    match path {
        b"plugin_vm_id" => Some(&host.options.vm_id),
        b"plugin_name" => Some(&host.plugin()?.name),
        b"plugin_root_id" => Some(&host.plugin()?.root_id),
        _ => None,
    }
}
