//! Implements the host functions that control a stream: local reply, continue, close, done.
//!
//! They take effect after the callback, never during it. A local reply ends the processing of the stream; a second one is
//! ignored. A connection has no local replies, and only the client's side of it can be continued.

use super::function::Kind::I32;
use super::function::{HostFunction, abi};
use crate::abi::{HeaderMap, Status};
use crate::envoy::local_reply::LocalReply;
use crate::event::Side;
use crate::vm::guest::{Arguments, Guest, HostCallError, HostCallResult};
use crate::vm::state::{Action, StreamState};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    abi(
        "proxy_send_local_response",
        &[I32, I32, I32, I32, I32, I32, I32, I32],
        send_local_response,
    ),
    abi("proxy_continue_stream", &[I32], continue_stream),
    abi("proxy_close_stream", &[I32], close_stream),
    abi("proxy_set_effective_context", &[I32], set_effective_context),
    abi("proxy_done", &[], done),
];

fn send_local_response(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    // Envoy truncates the status to 16 bits.
    let status = arguments.u32(0) & 0xffff;
    let details = guest.read(arguments.u32(1), arguments.u32(2))?;
    let body = guest.read(arguments.u32(3), arguments.u32(4))?;
    let headers = guest.read(arguments.u32(5), arguments.u32(6))?;
    let grpc_status = arguments.u32(7);
    check_not_ending(guest, "sends a local reply")?;
    let host = guest.host();
    let stream = host.stream().ok_or(Status::BadArgument)?;
    // Envoy ignores a local reply on a connection and returns `OK`.
    if stream.is_connection {
        return Ok(());
    }
    let reply = LocalReply {
        callback: host.callback,
        status,
        details: String::from_utf8_lossy(&details).replace(char::is_whitespace, "_"),
        body,
        headers: HeaderMap::parse(&headers),
        grpc_status: (grpc_status <= LAST_GRPC_STATUS).then_some(grpc_status),
    };
    host.request(Action::Reply(reply));
    Ok(())
}

fn continue_stream(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    match target(arguments)? {
        Target::Connection(Side::Response) => Err(Status::Unimplemented.into()),
        target => continue_target(guest, target),
    }
}

/// Continues `target` after the callback. Does nothing if the stream is of the other kind.
pub(super) fn continue_target(guest: &mut Guest<'_>, target: Target) -> HostCallResult {
    let host = guest.host();
    let stream = host.stream().ok_or(Status::BadArgument)?;
    if let Some(side) = target.side_of(stream) {
        // Whichever side it continues, the filter loses access to the request, but not to the response's headers.
        stream.holds_request_headers = false;
        stream.is_request_closed = true;
        host.request(Action::Continue(side));
    }
    Ok(())
}

fn close_stream(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let target = target(arguments)?;
    check_not_ending(guest, "closes its stream")?;
    let host = guest.host();
    let stream = host.stream().ok_or(Status::BadArgument)?;
    if target.side_of(stream).is_some() {
        host.request(Action::Close);
    }
    Ok(())
}

/// Fails if the stream is ending, when there is nothing left to reply to or to close. Envoy 1.40 crashes in this case, with
/// all its connections; here the filter fails, so that no test overlooks it. The specification does not allow the call.
fn check_not_ending(guest: &mut Guest<'_>, action: &str) -> HostCallResult {
    let host = guest.host();
    let callback = host.callback;
    let is_http = host.stream().is_some_and(|stream| !stream.is_connection);
    if !is_http
        || !matches!(
            callback,
            "proxy_on_log" | "proxy_on_done" | "proxy_on_delete"
        )
    {
        return Ok(());
    }
    if host.options.profile.crashes_on_late_replies() {
        let text = format!("the filter {action} in {callback}, which crashes Envoy 1.40");
        return Err(HostCallError::Trap(wasmtime::Error::msg(text)));
    }
    Err(Status::BadArgument.into())
}

/// The meaning of a stream type (`proxy_stream_type_t`).
#[derive(Clone, Copy)]
pub(super) enum Target {
    Http(Side),
    /// The client's side of a connection, or the upstream's.
    Connection(Side),
}

impl Target {
    /// Returns the side if `stream` is of the same kind.
    fn side_of(self, stream: &StreamState) -> Option<Side> {
        match self {
            Self::Http(side) => (!stream.is_connection).then_some(side),
            Self::Connection(side) => stream.is_connection.then_some(side),
        }
    }
}

fn target(arguments: &Arguments<'_>) -> Result<Target, Status> {
    match arguments.u32(0) {
        0 => Ok(Target::Http(Side::Request)),
        1 => Ok(Target::Http(Side::Response)),
        2 => Ok(Target::Connection(Side::Request)),
        3 => Ok(Target::Connection(Side::Response)),
        _ => Err(Status::BadArgument),
    }
}

fn set_effective_context(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let context = arguments.u32(0);
    let host = guest.host();
    if !host.has_context(context) {
        return Err(Status::BadArgument.into());
    }
    host.effective = context;
    Ok(())
}

fn done(guest: &mut Guest<'_>, _arguments: &Arguments<'_>) -> HostCallResult {
    let host = guest.host();
    let index = host
        .waiting_for_done
        .iter()
        .position(|context| *context == host.effective)
        .ok_or(Status::NotFound)?;
    host.waiting_for_done.remove(index);
    host.request(Action::Delete);
    Ok(())
}

/// `UNAUTHENTICATED`. Larger values, such as the SDKs' -1, mean that there is no gRPC status.
const LAST_GRPC_STATUS: u32 = 16;
