//! Implements the host functions for buffers: bodies, connection data, configurations, call-out responses.
//!
//! Measured in Envoy 1.40: a body outside its callback reads as `OK` and empty, exactly as if there were no body; the
//! plugin configuration exists only in `on_configure`, a call-out's body only in its callback; a start after the end reads
//! as empty, and a length beyond the end is truncated. A body may be replaced from its start or extended at its end; a
//! start inside it is `BAD_ARGUMENT`, although the specification allows it: see the rules of [`Profile`]. The data of a
//! connection behave like a body.
//!
//! [`Profile`]: crate::envoy::profile::Profile

use super::function::Kind::I32;
use super::function::{HostFunction, abi};
use crate::abi::{BufferId, Status};
use crate::event::Side;
use crate::vm::guest::{Arguments, Guest, HostCallResult};
use crate::vm::state::{Phase, StreamState};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    abi("proxy_get_buffer_bytes", &[I32, I32, I32, I32, I32], bytes),
    abi("proxy_get_buffer_status", &[I32, I32, I32], status),
    abi(
        "proxy_set_buffer_bytes",
        &[I32, I32, I32, I32, I32],
        set_bytes,
    ),
];

fn bytes(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let contents = contents(guest, arguments)?;
    let profile = guest.host().options.profile;
    let overflows = arguments.u32(1).checked_add(arguments.u32(2)).is_none();
    if overflows && !profile.truncates_overflowing_ranges() {
        return Err(Status::BadArgument.into());
    }
    let start = to_usize(arguments.u32(1)).min(contents.len());
    let end = start
        .saturating_add(to_usize(arguments.u32(2)))
        .min(contents.len());
    let part = contents.get(start..end).unwrap_or_default();
    guest.return_bytes(part, arguments.u32(3), arguments.u32(4))
}

fn status(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let size = contents(guest, arguments)?.len();
    let size = u32::try_from(size).map_err(|_| Status::InternalFailure)?;
    guest.write_u32(arguments.u32(1), size)?;
    guest.write_u32(arguments.u32(2), NO_FLAGS)?;
    Ok(())
}

fn set_bytes(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let side = match BufferId::from_number(arguments.u32(0)) {
        Some(BufferId::RequestBody | BufferId::DownstreamData) => Side::Request,
        Some(BufferId::ResponseBody | BufferId::UpstreamData) => Side::Response,
        // These can be read but not written; if absent, they are not found.
        Some(BufferId::PluginConfiguration | BufferId::CallBody) => {
            contents(guest, arguments)?;
            return Err(Status::BadArgument.into());
        }
        _ => return Err(Status::BadArgument.into()),
    };
    let is_data = matches!(arguments.u32(0), 2 | 3);
    let new = guest.read(arguments.u32(3), arguments.u32(4))?;
    let host = guest.host();
    let profile = host.options.profile;
    let body = host
        .stream()
        .and_then(|stream| open(stream, side, is_data))
        .ok_or(Status::BadArgument)?;
    let (start, size) = (to_usize(arguments.u32(1)), to_usize(arguments.u32(2)));
    if start == 0 {
        body.splice(..size.min(body.len()), new);
    } else if start >= body.len() {
        body.extend(new);
    } else if profile.replaces_inner_ranges() {
        let end = start.saturating_add(size).min(body.len());
        body.splice(start..end, new);
    } else {
        return Err(Status::BadArgument.into());
    }
    Ok(())
}

/// Copies the contents of a buffer.
fn contents(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<Vec<u8>, Status> {
    let buffer = BufferId::from_number(arguments.u32(0)).ok_or(Status::BadArgument)?;
    let host = guest.host();
    let hides = host.options.profile.hides_closed_buffers();
    let closed = || {
        if hides {
            Ok(Vec::new())
        } else {
            Err(Status::NotFound)
        }
    };
    let body = |stream: Option<&mut StreamState>, side, is_data| {
        let open = stream.and_then(|stream| open(stream, side, is_data));
        open.map_or_else(closed, |body| Ok(body.clone()))
    };
    match buffer {
        BufferId::RequestBody => body(host.stream(), Side::Request, false),
        BufferId::ResponseBody => body(host.stream(), Side::Response, false),
        BufferId::DownstreamData => body(host.stream(), Side::Request, true),
        BufferId::UpstreamData => body(host.stream(), Side::Response, true),
        BufferId::VmConfiguration => Ok(host.options.vm_configuration.clone()),
        BufferId::PluginConfiguration => host
            .plugin()
            .filter(|plugin| plugin.is_configuring)
            .map(|plugin| plugin.configuration.clone())
            .ok_or(Status::NotFound),
        BufferId::CallBody => host.call_data.body.clone().ok_or(Status::NotFound),
        BufferId::GrpcMessage => host.call_data.message.clone().map_or_else(closed, Ok),
        BufferId::ForeignArguments => host.call_data.foreign.clone().map_or_else(closed, Ok),
    }
}

/// Returns the body, or the data of a connection, if its callback runs or holds it.
fn open(stream: &mut StreamState, side: Side, is_data: bool) -> Option<&mut Vec<u8>> {
    let is_closed = side == Side::Request && stream.is_request_closed;
    let is_open = match stream.phase_mut(side) {
        Some(Phase::Body { .. }) => !is_data && !is_closed,
        Some(Phase::Data { .. }) => is_data,
        _ => false,
    };
    is_open.then(|| stream.body_mut(side))
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The flags of a buffer. The ABI defines none.
const NO_FLAGS: u32 = 0;
