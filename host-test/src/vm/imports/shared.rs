//! Implements the host functions for shared data and shared queues.
//!
//! All VMs with the same `vm_id` in a process share them. The context that registered a queue last, in any VM, is notified
//! of a new message after the callback that enqueued it.

use super::function::Kind::I32;
use super::function::{HostFunction, abi};
use crate::abi::Status;
use crate::vm::guest::{Arguments, Guest, HostCallResult};
use crate::vm::shared::QueueReader;

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

fn data(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let key = guest.read(arguments.u32(0), arguments.u32(1))?;
    let host = guest.host();
    let found = host.shared.lock().shared_data(&host.options.vm_id, &key);
    let (value, version) = found.ok_or(Status::NotFound)?;
    guest.write_u32(arguments.u32(4), version)?;
    guest.return_bytes(&value, arguments.u32(2), arguments.u32(3))
}

fn set_data(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let key = guest.read(arguments.u32(0), arguments.u32(1))?;
    let value = guest.read(arguments.u32(2), arguments.u32(3))?;
    let host = guest.host();
    let mut state = host.shared.lock();
    state.set_shared_data(&host.options.vm_id, &key, value, arguments.u32(4))?;
    Ok(())
}

fn register(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let name = guest.read(arguments.u32(0), arguments.u32(1))?;
    let host = guest.host();
    let reader = QueueReader {
        vm: host.number,
        // Streams do not read queues: the plugin is notified, whichever context registers.
        context: host.plugin_context(),
    };
    let id = host
        .shared
        .lock()
        .register_queue(&host.options.vm_id, &name, reader)
        .ok_or(Status::InternalFailure)?;
    guest.write_u32(arguments.u32(2), id)?;
    Ok(())
}

/// Returns the id of a queue. An empty `vm_id` is that of the caller.
fn resolve(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let vm_id = guest.read(arguments.u32(0), arguments.u32(1))?;
    let name = guest.read(arguments.u32(2), arguments.u32(3))?;
    let host = guest.host();
    let vm_id = if vm_id.is_empty() {
        host.options.vm_id.clone()
    } else {
        String::from_utf8(vm_id).map_err(|_| Status::NotFound)?
    };
    let found = host.shared.lock().resolve_queue(&vm_id, &name);
    guest.write_u32(arguments.u32(4), found.ok_or(Status::NotFound)?)?;
    Ok(())
}

fn enqueue(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let item = guest.read(arguments.u32(1), arguments.u32(2))?;
    guest.host().shared.lock().enqueue(arguments.u32(0), item)?;
    Ok(())
}

fn dequeue(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let item = guest.host().shared.lock().dequeue(arguments.u32(0))?;
    guest.return_bytes(&item, arguments.u32(1), arguments.u32(2))
}
