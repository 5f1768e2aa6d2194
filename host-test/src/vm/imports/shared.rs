//! What do shared data and shared queues answer?
//!
//! They are shared by all VMs of one `vm_id` in a process. A queue tells the context that registered it last, after the
//! callback that filled it, in whichever VM that context is.

use super::Kind::I32;
use super::{HostFunction, abi};
use crate::abi::Status;
use crate::vm::guest::{Answer, Arguments, Guest};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    abi("proxy_get_shared_data", &[I32, I32, I32, I32, I32], data),
    abi(
        "proxy_set_shared_data",
        &[I32, I32, I32, I32, I32],
        set_data,
    ),
    abi("proxy_register_shared_queue", &[I32, I32, I32], register),
    abi(
        "proxy_resolve_shared_queue",
        &[I32, I32, I32, I32, I32],
        resolve,
    ),
    abi("proxy_enqueue_shared_queue", &[I32, I32, I32], enqueue),
    abi("proxy_dequeue_shared_queue", &[I32, I32, I32], dequeue),
];

fn data(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let key = guest.read(arguments.u32(0), arguments.u32(1))?;
    let host = guest.host();
    let found = host.process.state().shared_data(&host.options.vm_id, &key);
    let (value, version) = found.ok_or(Status::NotFound)?;
    guest.write_u32(arguments.u32(4), version)?;
    guest.give(&value, arguments.u32(2), arguments.u32(3))
}

fn set_data(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let key = guest.read(arguments.u32(0), arguments.u32(1))?;
    let value = guest.read(arguments.u32(2), arguments.u32(3))?;
    let host = guest.host();
    let mut state = host.process.state();
    state.set_shared_data(&host.options.vm_id, &key, value, arguments.u32(4))?;
    Ok(())
}

fn register(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let name = guest.read(arguments.u32(0), arguments.u32(1))?;
    let host = guest.host();
    let reader = (host.number, host.effective);
    let id = host
        .process
        .state()
        .register_queue(&host.options.vm_id, &name, reader)
        .ok_or(Status::InternalFailure)?;
    guest.write_u32(arguments.u32(2), id)?;
    Ok(())
}

/// An empty `vm_id` is the own one.
fn resolve(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let vm_id = guest.read(arguments.u32(0), arguments.u32(1))?;
    let name = guest.read(arguments.u32(2), arguments.u32(3))?;
    let host = guest.host();
    let vm_id = if vm_id.is_empty() {
        host.options.vm_id.clone()
    } else {
        String::from_utf8(vm_id).map_err(|_| Status::NotFound)?
    };
    let found = host.process.state().resolve_queue(&vm_id, &name);
    guest.write_u32(arguments.u32(4), found.ok_or(Status::NotFound)?)?;
    Ok(())
}

fn enqueue(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let item = guest.read(arguments.u32(1), arguments.u32(2))?;
    guest
        .host()
        .process
        .state()
        .enqueue(arguments.u32(0), item)?;
    Ok(())
}

fn dequeue(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let item = guest.host().process.state().dequeue(arguments.u32(0))?;
    guest.give(&item, arguments.u32(1), arguments.u32(2))
}
