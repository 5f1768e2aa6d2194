//! Reads and writes the module's memory during a host call.
//!
//! All access to the memory goes through this file. Addresses and lengths come from the module and may have any value: they
//! are checked against the current memory, and an access outside it returns `INVALID_MEMORY_ACCESS`. No slice is kept
//! across a call into the module, because its memory may grow.

use wasmtime::{Caller, Extern, Memory, Val};

use super::state::HostState;
use crate::abi::{ALLOCATORS, Status};

/// The result of a host function; `Ok` becomes the status `OK`.
pub(crate) type HostCallResult = Result<(), HostCallError>;

/// The reason why a host function does not return `OK`.
pub(crate) enum HostCallError {
    /// The function returns this status.
    Status(Status),
    /// The module traps.
    Trap(wasmtime::Error),
}

impl From<Status> for HostCallError {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The module, while a host function runs.
pub(crate) struct Guest<'a> {
    caller: Caller<'a, HostState>,
    memory: Memory,
    copied: u64,
}

/// The arguments of a host function.
pub(crate) struct Arguments<'a>(pub(crate) &'a [Val]);

impl Arguments<'_> {
    /// Returns the argument at `index` as a `u32`: an address, a length, an id.
    ///
    /// The function's type is checked when the module is loaded. A missing argument is therefore a bug in the host's own
    /// table and is read as an address outside every memory.
    pub(crate) fn u32(&self, index: usize) -> u32 {
        self.0
            .get(index)
            .and_then(Val::i32)
            .map_or(u32::MAX, i32::cast_unsigned)
    }

    /// Returns the argument at `index` as an `i64`.
    pub(crate) fn i64(&self, index: usize) -> i64 {
        self.0.get(index).and_then(Val::i64).unwrap_or(-1)
    }
}

impl<'a> Guest<'a> {
    /// Returns `None` if the module exports no memory.
    pub(crate) fn new(mut caller: Caller<'a, HostState>) -> Option<Self> {
        let memory = match caller.data().memory {
            Some(memory) => memory,
            // A start section runs before the host has looked the memory up.
            None => caller.get_export("memory").and_then(Extern::into_memory)?,
        };
        Some(Self {
            caller,
            memory,
            copied: 0,
        })
    }

    pub(crate) fn host(&mut self) -> &mut HostState {
        self.caller.data_mut()
    }

    /// Charges fuel to `context` for the call and the bytes that it copied, so that a loop of host calls runs out of fuel
    /// before it fills the host's memory.
    pub(crate) fn charge(&mut self, context: u32) -> wasmtime::Result<()> {
        let cost = FUEL_PER_CALL.saturating_add(self.copied);
        let remaining = self.caller.get_fuel()?.saturating_sub(cost);
        self.caller.set_fuel(remaining)?;
        let host = self.host();
        host.record_of(context).abi_fuel += cost;
        if host.effective != context {
            host.record_fuel(context, remaining);
        }
        Ok(())
    }

    /// Copies `length` bytes from `address`.
    pub(crate) fn read(&mut self, address: u32, length: u32) -> Result<Vec<u8>, Status> {
        let end = u64::from(address) + u64::from(length);
        let (Ok(start), Ok(end)) = (usize::try_from(address), usize::try_from(end)) else {
            return Err(Status::InvalidMemoryAccess);
        };
        let bytes = self.memory.data(&self.caller).get(start..end);
        let bytes = bytes.ok_or(Status::InvalidMemoryAccess)?.to_vec();
        self.copied += u64::from(length);
        if let Some(traced) = &mut self.host().traced {
            traced.passed.push(bytes.clone());
        }
        Ok(bytes)
    }

    /// Copies `bytes` to `address`.
    pub(crate) fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Status> {
        let start = usize::try_from(address).map_err(|_| Status::InvalidMemoryAccess)?;
        start
            .checked_add(bytes.len())
            .and_then(|end| self.memory.data_mut(&mut self.caller).get_mut(start..end))
            .ok_or(Status::InvalidMemoryAccess)?
            .copy_from_slice(bytes);
        self.copied += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn write_u32(&mut self, address: u32, value: u32) -> Result<(), Status> {
        self.write(address, &value.to_le_bytes())
    }

    /// Writes `bytes` to memory that the module allocates, and their address and length to the given pointers. Without bytes
    /// both are 0 and nothing is allocated.
    pub(crate) fn return_bytes(
        &mut self,
        bytes: &[u8],
        address_pointer: u32,
        length_pointer: u32,
    ) -> Result<(), HostCallError> {
        self.write_u32(address_pointer, 0)?;
        self.write_u32(length_pointer, 0)?;
        if let Some(traced) = &mut self.host().traced {
            traced.returned = Some(bytes.to_vec());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
        let address = self.allocate(length)?;
        if address == 0 {
            return Err(Status::InvalidMemoryAccess.into());
        }
        self.write(address, bytes)?;
        self.write_u32(address_pointer, address)?;
        self.write_u32(length_pointer, length)?;
        Ok(())
    }

    fn allocate(&mut self, length: u32) -> Result<u32, HostCallError> {
        if self.host().is_allocating {
            return Err(Status::InternalFailure.into());
        }
        if self.host().faults.allocation() {
            return Ok(0);
        }
        let allocator = match self.caller.data().allocator.clone() {
            Some(allocator) => allocator,
            None => ALLOCATORS
                .iter()
                .find_map(|name| self.caller.get_export(name).and_then(Extern::into_func))
                .ok_or(Status::InvalidMemoryAccess)?
                .typed(&self.caller)
                .map_err(HostCallError::Trap)?,
        };
        self.host().is_allocating = true;
        let address = allocator.call(&mut self.caller, length);
        self.host().is_allocating = false;
        address.map_err(HostCallError::Trap)
    }
}

/// The fuel for a host call, in addition to one unit for each byte that it copies.
const FUEL_PER_CALL: u64 = 50;
