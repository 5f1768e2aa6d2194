//! Which host functions has only ABI 0.1.0?
//!
//! Four that 0.2.0 replaced by more general ones. A module of a later version that imports them is refused by Envoy; here
//! as well.

use super::Kind::I32;
use super::stream::{Target, go_on};
use super::{HostFunction, abi};
use crate::stream::Side;
use crate::vm::guest::{Answer, Arguments, Guest};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    abi("proxy_clear_route_cache", &[], |_, _| Ok(())),
    abi("proxy_continue_request", &[], |guest, _| {
        go_on(guest, Target::Http(Side::Request))
    }),
    abi("proxy_continue_response", &[], |guest, _| {
        go_on(guest, Target::Http(Side::Response))
    }),
    abi("proxy_get_configuration", &[I32, I32], configuration),
];

/// The names of these functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|function| function.name)
}

/// The plugin's configuration in `on_configure`, else that of the VM.
fn configuration(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let host = guest.host();
    let of_plugin = host
        .plugin()
        .filter(|plugin| plugin.is_configuring)
        .map(|plugin| plugin.configuration.clone());
    let bytes = of_plugin.unwrap_or_else(|| host.options.vm_configuration.clone());
    guest.give(&bytes, arguments.u32(0), arguments.u32(1))
}
