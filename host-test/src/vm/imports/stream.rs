//! How does a filter steer a stream?
//!
//! Continue, close and the end of a wait take effect when the callback is over, never in its midst. A local reply ends
//! the processing of the stream; a second one is too late. On a connection nothing can be answered, and only the client's
//! side be continued.

use super::Kind::I32;
use super::{HostFunction, abi};
use crate::abi::Status;
use crate::abi::header_map::HeaderMap;
use crate::envoy::local_reply::LocalReply;
use crate::stream::Side;
use crate::vm::guest::{Answer, Arguments, Guest, Stop};
use crate::vm::state::StreamState;

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

fn send_local_response(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    // Envoy has no more than 16 bits for it.
    let status = arguments.u32(0) & 0xffff;
    let details = guest.read(arguments.u32(1), arguments.u32(2))?;
    let body = guest.read(arguments.u32(3), arguments.u32(4))?;
    let headers = guest.read(arguments.u32(5), arguments.u32(6))?;
    let grpc_status = arguments.u32(7);
    refuse_at_end(guest, "answers")?;
    let host = guest.host();
    let callback = host.callback;
    let stream = host.stream().ok_or(Status::BadArgument)?;
    // Nothing can be answered on a connection, and Envoy does not say so.
    if stream.is_connection {
        return Ok(());
    }
    stream.reply.get_or_insert_with(|| LocalReply {
        callback,
        status,
        details: String::from_utf8_lossy(&details).replace(char::is_whitespace, "_"),
        body,
        headers: HeaderMap::parse(&headers),
        grpc_status: (grpc_status <= LAST_GRPC_STATUS).then_some(grpc_status),
    });
    Ok(())
}

fn continue_stream(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    match target(arguments)? {
        Target::Connection(Side::Response) => Err(Status::Unimplemented.into()),
        target => go_on(guest, target),
    }
}

/// Continues what `target` names when the callback is over. A stream of the other kind has no such thing: nothing
/// happens.
pub(super) fn go_on(guest: &mut Guest<'_>, target: Target) -> Answer {
    let host = guest.host();
    let context = host.effective;
    let stream = host.stream().ok_or(Status::BadArgument)?;
    if let Some(side) = target.of(stream) {
        host.continued.push((context, side));
    }
    Ok(())
}

fn close_stream(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let target = target(arguments)?;
    refuse_at_end(guest, "closes its stream")?;
    let stream = guest.host().stream().ok_or(Status::BadArgument)?;
    if target.of(stream).is_some() {
        stream.closed = true;
    }
    Ok(())
}

/// Nothing is left to be answered or closed when a stream ends: Envoy 1.40 dies of it, with all its connections. So it is a
/// failure of the filter here, lest a test overlook it; by the specification the call is in the wrong place.
fn refuse_at_end(guest: &mut Guest<'_>, what: &str) -> Answer {
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
    if host.options.profile.dies_of_late_answers() {
        let text = format!("the filter {what} in {callback}, of which Envoy 1.40 dies");
        return Err(Stop::Trap(wasmtime::Error::msg(text)));
    }
    Err(Status::BadArgument.into())
}

/// What a stream type (`proxy_stream_type_t`) names.
#[derive(Clone, Copy)]
pub(super) enum Target {
    Http(Side),
    /// The client's side of a connection, or the upstream's.
    Connection(Side),
}

impl Target {
    /// The side, if `stream` is of the kind that has it.
    fn of(self, stream: &StreamState) -> Option<Side> {
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

fn set_effective_context(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let context = arguments.u32(0);
    let host = guest.host();
    if !host.has_context(context) {
        return Err(Status::BadArgument.into());
    }
    host.effective = context;
    Ok(())
}

fn done(guest: &mut Guest<'_>, _arguments: &Arguments<'_>) -> Answer {
    let host = guest.host();
    let place = host
        .waiting_for_done
        .iter()
        .position(|context| *context == host.effective)
        .ok_or(Status::NotFound)?;
    let context = host.waiting_for_done.remove(place);
    host.done.push(context);
    Ok(())
}

/// `UNAUTHENTICATED`. Anything above, the SDKs' -1 among them, means that there is none.
const LAST_GRPC_STATUS: u32 = 16;
