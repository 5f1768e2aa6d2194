//! Implements the host functions for header maps.
//!
//! A map exists while the callback of its phase runs or is paused. At other times, values, sizes and setters return
//! `BAD_ARGUMENT`, which the Rust SDK turns into a panic, but reading the whole map returns `OK` and an empty map. In
//! `on_log` all maps except the request trailers can be read, and a missing name is `NOT_FOUND`; maps of call-outs can be
//! read in their callback. Measured in Envoy 1.40; [`Profile`] lists where the specification differs.

use super::function::Kind::I32;
use super::function::{HostFunction, abi};
use crate::abi::{HeaderMap, MapId, Status, Version};
use crate::envoy::inline_headers;
use crate::envoy::profile::Profile;
use crate::vm::guest::{Arguments, Guest, HostCallResult};
use crate::vm::state::HostState;

pub(super) const FUNCTIONS: &[HostFunction] = &[
    abi("proxy_get_header_map_size", &[I32, I32], size),
    abi("proxy_get_header_map_pairs", &[I32, I32, I32], pairs),
    abi("proxy_set_header_map_pairs", &[I32, I32, I32], set_pairs),
    abi(
        "proxy_get_header_map_value",
        &[I32, I32, I32, I32, I32],
        value,
    ),
    abi(
        "proxy_add_header_map_value",
        &[I32, I32, I32, I32, I32],
        add,
    ),
    abi(
        "proxy_replace_header_map_value",
        &[I32, I32, I32, I32, I32],
        replace,
    ),
    abi("proxy_remove_header_map_value", &[I32, I32, I32], remove),
];

fn size(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let profile = guest.host().options.profile;
    let size = profile.map_size(writable(guest, arguments)?);
    let size = u32::try_from(size).map_err(|_| Status::InternalFailure)?;
    guest.write_u32(arguments.u32(1), size)?;
    Ok(())
}

fn pairs(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let map = id(arguments)?;
    let bytes = readable(guest.host(), map).map_or_else(Vec::new, HeaderMap::serialize);
    guest.return_bytes(&bytes, arguments.u32(1), arguments.u32(2))
}

fn set_pairs(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let bytes = guest.read(arguments.u32(1), arguments.u32(2))?;
    let (which, profile) = (id(arguments)?, guest.host().options.profile);
    *writable(guest, arguments)? = parse(&bytes, which, profile);
    Ok(())
}

/// Parses a map that the module passed.
pub(super) fn parse(bytes: &[u8], which: MapId, profile: Profile) -> HeaderMap {
    let map = HeaderMap::parse(bytes);
    if !profile.joins_inline_headers() {
        return map;
    }
    let lines = map.iter().map(|(name, value)| (alias(name), value));
    inline_headers::merge(which, lines)
}

fn value(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let map = id(arguments)?;
    let name = guest.read(arguments.u32(1), arguments.u32(2))?;
    let host = guest.host();
    let is_logging = host.stream().is_some_and(|stream| stream.is_logging);
    let missing_is_empty = host.version == Version::V0_1_0;
    let value = match readable(host, map) {
        Some(map) => match map.get_bytes(alias(&name)) {
            Some(value) => value.to_vec(),
            None if missing_is_empty => Vec::new(),
            None => return Err(Status::NotFound.into()),
        },
        None if is_logging => return Err(Status::NotFound.into()),
        None => return Err(Status::BadArgument.into()),
    };
    guest.return_bytes(&value, arguments.u32(3), arguments.u32(4))
}

fn add(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let (name, value) = line(guest, arguments)?;
    let (which, profile) = (id(arguments)?, guest.host().options.profile);
    let map = writable(guest, arguments)?;
    if profile.joins_inline_headers() {
        inline_headers::add(map, which, alias(&name), &value);
    } else {
        map.add(alias(&name), &value);
    }
    Ok(())
}

fn replace(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let (name, value) = line(guest, arguments)?;
    writable(guest, arguments)?.replace(alias(&name), &value);
    Ok(())
}

fn remove(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let name = guest.read(arguments.u32(1), arguments.u32(2))?;
    writable(guest, arguments)?.remove(alias(&name));
    Ok(())
}

fn line(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<(Vec<u8>, Vec<u8>), Status> {
    let name = guest.read(arguments.u32(1), arguments.u32(2))?;
    let value = guest.read(arguments.u32(3), arguments.u32(4))?;
    Ok((name, value))
}

/// Returns the map that the effective context may change now.
fn writable<'a>(
    guest: &'a mut Guest<'_>,
    arguments: &Arguments<'_>,
) -> Result<&'a mut HeaderMap, Status> {
    let map = id(arguments)?;
    guest
        .host()
        .stream()
        .filter(|stream| !stream.is_logging)
        .and_then(|stream| stream.open_map(map))
        .ok_or(Status::BadArgument)
}

/// Returns the map that the effective context may read now.
fn readable(host: &HostState, map: MapId) -> Option<&HeaderMap> {
    let profile = host.options.profile;
    let effective = host.effective;
    host.call_data.map(map).or_else(|| {
        let stream = host.streams.get(&effective)?;
        stream.readable_map(map, profile)
    })
}

fn id(arguments: &Arguments<'_>) -> Result<MapId, Status> {
    MapId::from_number(arguments.u32(0)).ok_or(Status::BadArgument)
}

/// Maps `Host` to `:authority`: Envoy stores it under that name and accepts both.
fn alias(name: &[u8]) -> &[u8] {
    if name.eq_ignore_ascii_case(b"host") {
        b":authority"
    } else {
        name
    }
}
