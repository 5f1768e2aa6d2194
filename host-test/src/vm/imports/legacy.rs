//! Implements the host functions that only ABI 0.1.0 has.
//!
//! ABI 0.2.0 replaced them with more general ones. Envoy rejects a module of a later version that imports them, and so does
//! this host.

use super::function::Kind::I32;
use super::function::{HostFunction, abi};
use super::stream::{Target, continue_target};
use crate::event::Side;
use crate::vm::guest::{Arguments, Guest, HostCallResult};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    abi("proxy_clear_route_cache", &[], |_, _| Ok(())),
    abi("proxy_continue_request", &[], |guest, _| {
        continue_target(guest, Target::Http(Side::Request))
    }),
    abi("proxy_continue_response", &[], |guest, _| {
        continue_target(guest, Target::Http(Side::Response))
    }),
    abi("proxy_get_configuration", &[I32, I32], configuration),
];

/// Returns the names of these functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|function| function.name)
}

/// Returns the plugin's configuration in `on_configure`, otherwise that of the VM.
fn configuration(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let host = guest.host();
    let of_plugin = host
        .plugin()
        .filter(|plugin| plugin.is_configuring)
        .map(|plugin| plugin.configuration.clone());
    let bytes = of_plugin.unwrap_or_else(|| host.options.vm_configuration.clone());
    guest.return_bytes(&bytes, arguments.u32(0), arguments.u32(1))
}
