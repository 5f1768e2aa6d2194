//! What do the property functions answer?
//!
//! A path leads to what the stream was given, then to the messages' own facts, then to the plugin's; in Envoy all of
//! them are built in and cannot be overwritten. What a module sets is kept under the whole path but found again only by
//! a path of one segment, as measured in Envoy 1.40.

use super::Kind::I32;
use super::{HostFunction, abi};
use crate::abi::Status;
use crate::guest::{Answer, Arguments, Guest};
use crate::host::Host;
use crate::property;

pub(super) const FUNCTIONS: &[HostFunction] = &[
    abi("proxy_get_property", &[I32, I32, I32, I32], get),
    abi("proxy_set_property", &[I32, I32, I32, I32], set),
];

fn get(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let path = guest.read(arguments.u32(0), arguments.u32(1))?;
    if path.is_empty() {
        return Err(Status::SerializationFailure.into());
    }
    let value = find(guest.host(), property::separated(&path)).ok_or(Status::NotFound)?;
    guest.give(&value, arguments.u32(2), arguments.u32(3))
}

fn set(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let path = guest.read(arguments.u32(0), arguments.u32(1))?;
    let value = guest.read(arguments.u32(2), arguments.u32(3))?;
    let stream = guest.host().stream().ok_or(Status::NotFound)?;
    stream.own_properties.insert(path, value);
    Ok(())
}

fn find(host: &mut Host, path: &[u8]) -> Option<Vec<u8>> {
    let profile = host.options.profile;
    if let Some(value) = of_plugin(host, path) {
        return Some(value.as_bytes().to_vec());
    }
    let stream = host.stream()?;
    stream
        .properties
        .get(path)
        .or_else(|| {
            property::of_messages(
                path,
                stream.request_headers.as_ref(),
                stream.response_headers.as_ref(),
            )
        })
        .or_else(|| {
            let is_found = !path.contains(&0) || profile.finds_own_paths();
            stream
                .own_properties
                .get(path)
                .filter(|_| is_found)
                .cloned()
        })
}

fn of_plugin<'a>(host: &'a mut Host, path: &[u8]) -> Option<&'a str> {
    match path {
        b"plugin_vm_id" => Some(&host.options.vm_id),
        b"plugin_name" => Some(&host.plugin()?.name),
        b"plugin_root_id" => Some(&host.plugin()?.root_id),
        _ => None,
    }
}
