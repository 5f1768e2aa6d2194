//! How does a filter steer a stream?
//!
//! Continue, close and the end of a wait take effect when the callback is over, never in its midst. A local reply ends
//! the processing of the stream; a second one is too late.

use super::Kind::I32;
use super::{HostFunction, abi};
use crate::abi::Status;
use crate::guest::{Answer, Arguments, Guest};
use crate::header_map::HeaderMap;
use crate::reply::LocalReply;
use crate::stream::Side;

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
    let status = arguments.u32(0);
    let details = guest.read(arguments.u32(1), arguments.u32(2))?;
    let body = guest.read(arguments.u32(3), arguments.u32(4))?;
    let headers = guest.read(arguments.u32(5), arguments.u32(6))?;
    let grpc_status = arguments.u32(7);
    let stream = guest.host().stream().ok_or(Status::BadArgument)?;
    if stream.logging {
        return Err(Status::BadArgument.into());
    }
    stream.reply.get_or_insert_with(|| LocalReply {
        status,
        details: String::from_utf8_lossy(&details).replace(char::is_whitespace, "_"),
        body,
        headers: HeaderMap::parse(&headers),
        grpc_status: (grpc_status <= LAST_GRPC_STATUS).then_some(grpc_status),
    });
    Ok(())
}

fn continue_stream(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let side = side(arguments)?;
    let host = guest.host();
    let context = host.effective;
    if host.stream().is_none() {
        return Err(Status::BadArgument.into());
    }
    host.continued.push((context, side));
    Ok(())
}

fn close_stream(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    side(arguments)?;
    guest.host().stream().ok_or(Status::BadArgument)?.closed = true;
    Ok(())
}

/// The side that a stream type (`proxy_stream_type_t`) names. 2 and 3 are connections, which no HTTP stream has.
fn side(arguments: &Arguments<'_>) -> Result<Side, Status> {
    match arguments.u32(0) {
        0 => Ok(Side::Request),
        1 => Ok(Side::Response),
        2 | 3 => Err(Status::Unimplemented),
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
