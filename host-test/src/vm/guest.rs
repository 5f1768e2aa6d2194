//! How does the host reach into the module's memory?
//!
//! Through here alone. Every address and length comes from the module and may be anything: it is checked against the
//! memory as it is at that moment, and what lies outside answers `INVALID_MEMORY_ACCESS`. No slice is kept over a call
//! into the module, whose memory may have grown by then.

use wasmtime::{Caller, Extern, Memory, Val};

use crate::abi::Status;
use crate::vm::state::Host;

/// What a host function ends with: `Ok` answers `OK`.
pub(crate) type Answer = Result<(), Stop>;

/// Why a host function does not answer `OK`.
pub(crate) enum Stop {
    /// The module gets this status.
    Status(Status),
    /// The module does not get to see an answer.
    Trap(wasmtime::Error),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The module, while it waits for a host function.
pub(crate) struct Guest<'a> {
    caller: Caller<'a, Host>,
    memory: Memory,
    copied: u64,
}

/// The arguments of a host function.
pub(crate) struct Arguments<'a>(pub(crate) &'a [Val]);

impl Arguments<'_> {
    /// The argument at `place`, as its 32 bits. An address, a length, an id.
    ///
    /// The function's type is checked when the module is loaded, so an argument that is not there is a fault of the
    /// host's own table and reads as an address outside every memory.
    pub(crate) fn u32(&self, place: usize) -> u32 {
        self.0
            .get(place)
            .and_then(Val::i32)
            .map_or(u32::MAX, i32::cast_unsigned)
    }

    /// The argument at `place`, as its 64 bits.
    pub(crate) fn i64(&self, place: usize) -> i64 {
        self.0.get(place).and_then(Val::i64).unwrap_or(-1)
    }
}

impl<'a> Guest<'a> {
    /// `None` if the module exports no memory.
    pub(crate) fn new(mut caller: Caller<'a, Host>) -> Option<Self> {
        let memory = match caller.data().memory {
            Some(memory) => memory,
            // A start section runs before the host has looked.
            None => caller.get_export("memory").and_then(Extern::into_memory)?,
        };
        Some(Self {
            caller,
            memory,
            copied: 0,
        })
    }

    pub(crate) fn host(&mut self) -> &mut Host {
        self.caller.data_mut()
    }

    /// Takes fuel for the call and what it copied, so that a loop of host calls ends like any other loop, before it has
    /// filled the host's memory.
    pub(crate) fn charge(&mut self) -> wasmtime::Result<()> {
        let left = self.caller.get_fuel()?;
        let cost = FUEL_PER_CALL.saturating_add(self.copied);
        self.host().record().abi_fuel += cost;
        self.caller.set_fuel(left.saturating_sub(cost))
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

    /// Hands `bytes` over in memory that the module allocates, and writes their address and length where it asked for
    /// them. No bytes: address 0, length 0, and nothing is allocated.
    pub(crate) fn give(
        &mut self,
        bytes: &[u8],
        address_place: u32,
        length_place: u32,
    ) -> Result<(), Stop> {
        self.write_u32(address_place, 0)?;
        self.write_u32(length_place, 0)?;
        if let Some(traced) = &mut self.host().traced {
            traced.given = Some(bytes.to_vec());
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
        self.write_u32(address_place, address)?;
        self.write_u32(length_place, length)?;
        Ok(())
    }

    fn allocate(&mut self, length: u32) -> Result<u32, Stop> {
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
                .map_err(Stop::Trap)?,
        };
        self.host().is_allocating = true;
        let address = allocator.call(&mut self.caller, length);
        self.host().is_allocating = false;
        address.map_err(Stop::Trap)
    }
}

/// Fuel for a host call beside what it copies.
const FUEL_PER_CALL: u64 = 50;

/// The exports that can allocate, in the order they are tried.
pub(crate) const ALLOCATORS: [&str; 2] = ["proxy_on_memory_allocate", "malloc"];
