//! What do shared data and shared queues answer?
//!
//! In Envoy they are shared by all VMs of one `vm_id`; here one plugin is one VM, so they live as long as it does. A
//! queue tells the context that registered it last, after the callback that filled it.

use super::Kind::I32;
use super::{HostFunction, abi};
use crate::abi::Status;
use crate::guest::{Answer, Arguments, Guest};
use crate::host::{Host, Queue};

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
    let (value, version) = guest
        .host()
        .shared_data
        .get(&key)
        .cloned()
        .ok_or(Status::NotFound)?;
    guest.write_u32(arguments.u32(4), version)?;
    guest.give(&value, arguments.u32(2), arguments.u32(3))
}

/// Version 0 sets whatever is there; a new key takes any version.
fn set_data(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let key = guest.read(arguments.u32(0), arguments.u32(1))?;
    let value = guest.read(arguments.u32(2), arguments.u32(3))?;
    let wanted = arguments.u32(4);
    let data = &mut guest.host().shared_data;
    let known = data.get(&key).map(|(_, version)| *version);
    if let Some(version) = known
        && wanted != 0
        && wanted != version
    {
        return Err(Status::CasMismatch.into());
    }
    // 0 would mean "whatever is there" to the next caller.
    let version = known.unwrap_or(0).checked_add(1).unwrap_or(1);
    data.insert(key, (value, version));
    Ok(())
}

fn register(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let name = guest.read(arguments.u32(0), arguments.u32(1))?;
    let host = guest.host();
    let reader = host.effective;
    let place = host
        .queues
        .iter()
        .position(|queue| queue.name == name)
        .unwrap_or_else(|| {
            host.queues.push(Queue {
                name,
                ..Queue::default()
            });
            host.queues.len() - 1
        });
    if let Some(queue) = host.queues.get_mut(place) {
        queue.reader = reader;
    }
    let id = u32::try_from(place).map_err(|_| Status::InternalFailure)?;
    guest.write_u32(arguments.u32(2), id)?;
    Ok(())
}

fn resolve(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let vm_id = guest.read(arguments.u32(0), arguments.u32(1))?;
    let name = guest.read(arguments.u32(2), arguments.u32(3))?;
    let host = guest.host();
    if !vm_id.is_empty() && vm_id != host.options.vm_id.as_bytes() {
        return Err(Status::NotFound.into());
    }
    let id = host
        .queues
        .iter()
        .position(|queue| queue.name == name)
        .and_then(|place| u32::try_from(place).ok())
        .ok_or(Status::NotFound)?;
    guest.write_u32(arguments.u32(4), id)?;
    Ok(())
}

fn enqueue(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let id = arguments.u32(0);
    let item = guest.read(arguments.u32(1), arguments.u32(2))?;
    let host = guest.host();
    find_queue(host, id)?.items.push_back(item);
    host.filled_queues.push(id);
    Ok(())
}

fn dequeue(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let queue = find_queue(guest.host(), arguments.u32(0))?;
    let item = queue.items.pop_front().ok_or(Status::Empty)?;
    guest.give(&item, arguments.u32(1), arguments.u32(2))
}

fn find_queue(host: &mut Host, id: u32) -> Result<&mut Queue, Status> {
    let place = usize::try_from(id).map_err(|_| Status::NotFound)?;
    host.queues.get_mut(place).ok_or(Status::NotFound)
}
