//! What does WASI mean inside a proxy?
//!
//! Envoy's answers, not those of an operating system: standard output and error go to the log, there are no files and
//! no arguments, the environment is the plugin's setting, and `proc_exit` logs and returns, so that the module's own trap follows. Randomness is
//! seeded and the clock is the host's, so that a run repeats.

use super::Kind::{I32, I64};
use super::{Action, HostFunction, Kind};
use crate::abi::{LogLevel, Status};
use crate::vm::guest::{Arguments, Guest};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    wasi("args_get", &[I32, I32], succeed),
    wasi("args_sizes_get", &[I32, I32], no_strings),
    wasi("clock_res_get", &[I32, I32], |_, _| Ok(NOT_SUPPORTED)),
    wasi("clock_time_get", &[I32, I64, I32], clock_time_get),
    wasi("environ_get", &[I32, I32], environ_get),
    wasi("environ_sizes_get", &[I32, I32], environ_sizes_get),
    wasi("fd_close", &[I32], |_, _| Ok(NO_SYSTEM_CALL)),
    wasi("fd_fdstat_get", &[I32, I32], fd_fdstat_get),
    wasi("fd_fdstat_set_flags", &[I32, I32], |_, _| {
        Ok(NO_SYSTEM_CALL)
    }),
    wasi("fd_filestat_get", &[I32, I32], |_, _| Ok(NOT_SUPPORTED)),
    wasi("fd_prestat_dir_name", &[I32, I32, I32], |_, _| {
        Ok(NO_SYSTEM_CALL)
    }),
    wasi("fd_prestat_get", &[I32, I32], |_, _| Ok(BAD_FILE)),
    wasi("fd_read", &[I32, I32, I32, I32], |_, _| Ok(NO_SYSTEM_CALL)),
    wasi("fd_seek", &[I32, I64, I32, I32], |_, _| Ok(NO_SYSTEM_CALL)),
    wasi("fd_write", &[I32, I32, I32, I32], fd_write),
    wasi("path_filestat_get", &[I32, I32, I32, I32, I32], |_, _| {
        Ok(NOT_SUPPORTED)
    }),
    wasi(
        "path_open",
        &[I32, I32, I32, I32, I32, I64, I64, I32, I32],
        |_, _| Ok(NO_SUCH_FILE),
    ),
    wasi("poll_oneoff", &[I32, I32, I32, I32], poll_oneoff),
    HostFunction {
        name: "proc_exit",
        parameters: &[I32],
        action: Action::Silent(proc_exit),
    },
    wasi("random_get", &[I32, I32], random_get),
    wasi("sched_yield", &[], succeed),
    absent("fd_advise", &[I32, I64, I64, I32]),
    absent("fd_allocate", &[I32, I64, I64]),
    absent("fd_datasync", &[I32]),
    absent("fd_fdstat_set_rights", &[I32, I64, I64]),
    absent("fd_filestat_set_size", &[I32, I64]),
    absent("fd_filestat_set_times", &[I32, I64, I64, I32]),
    absent("fd_pread", &[I32, I32, I32, I64, I32]),
    absent("fd_pwrite", &[I32, I32, I32, I64, I32]),
    absent("fd_readdir", &[I32, I32, I32, I64, I32]),
    absent("fd_renumber", &[I32, I32]),
    absent("fd_sync", &[I32]),
    absent("fd_tell", &[I32, I32]),
    absent("path_create_directory", &[I32, I32, I32]),
    absent(
        "path_filestat_set_times",
        &[I32, I32, I32, I32, I64, I64, I32],
    ),
    absent("path_link", &[I32, I32, I32, I32, I32, I32, I32]),
    absent("path_readlink", &[I32, I32, I32, I32, I32, I32]),
    absent("path_remove_directory", &[I32, I32, I32]),
    absent("path_rename", &[I32, I32, I32, I32, I32, I32]),
    absent("path_symlink", &[I32, I32, I32, I32, I32]),
    absent("path_unlink_file", &[I32, I32, I32]),
    absent("proc_raise", &[I32]),
    absent("sock_recv", &[I32, I32, I32, I32, I32, I32]),
    absent("sock_send", &[I32, I32, I32, I32, I32]),
    absent("sock_shutdown", &[I32, I32]),
];

/// A function that exists to be linked.
const fn absent(name: &'static str, parameters: &'static [Kind]) -> HostFunction {
    wasi(name, parameters, |_, _| Ok(NO_SYSTEM_CALL))
}

const fn wasi(
    name: &'static str,
    parameters: &'static [Kind],
    action: fn(&mut Guest<'_>, &Arguments<'_>) -> Result<i32, Status>,
) -> HostFunction {
    HostFunction {
        name,
        parameters,
        action: Action::Wasi(action),
    }
}

fn succeed(_guest: &mut Guest<'_>, _arguments: &Arguments<'_>) -> Result<i32, Status> {
    Ok(SUCCESS)
}

/// A list of strings, with its count and its bytes: none.
fn no_strings(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    guest.write_u32(arguments.u32(0), 0)?;
    guest.write_u32(arguments.u32(1), 0)?;
    Ok(SUCCESS)
}

fn environ_sizes_get(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    let lines = environment(guest);
    let size: usize = lines.iter().map(Vec::len).sum();
    for (place, number) in [(0, lines.len()), (1, size)] {
        let number = u32::try_from(number).map_err(|_| Status::InvalidMemoryAccess)?;
        guest.write_u32(arguments.u32(place), number)?;
    }
    Ok(SUCCESS)
}

/// Writes the addresses of the lines, and the lines one behind the other.
fn environ_get(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    let (mut place, mut address) = (arguments.u32(0), arguments.u32(1));
    for line in environment(guest) {
        guest.write_u32(place, address)?;
        guest.write(address, &line)?;
        let length = u32::try_from(line.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        place = place.checked_add(4).ok_or(Status::InvalidMemoryAccess)?;
        address = address
            .checked_add(length)
            .ok_or(Status::InvalidMemoryAccess)?;
    }
    Ok(SUCCESS)
}

/// `NAME=value` with a zero byte behind it, for each variable.
fn environment(guest: &mut Guest<'_>) -> Vec<Vec<u8>> {
    let variables = &guest.host().options.environment;
    variables
        .iter()
        .map(|(name, value)| format!("{name}={value}\0").into_bytes())
        .collect()
}

fn clock_time_get(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    const REALTIME: u32 = 0;
    const MONOTONIC: u32 = 1;
    if !matches!(arguments.u32(0), REALTIME | MONOTONIC) {
        return Ok(NOT_SUPPORTED);
    }
    let now = guest.host().now();
    guest.write(arguments.u32(2), &now.to_le_bytes())?;
    Ok(SUCCESS)
}

/// Writes the `fdstat` of a character device that can be written to, for standard output and error alone.
fn fd_fdstat_get(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    const CHARACTER_DEVICE: u8 = 2;
    const RIGHT_TO_WRITE: u8 = 1 << 6;
    if !matches!(arguments.u32(0), STANDARD_OUTPUT | STANDARD_ERROR) {
        return Ok(BAD_FILE);
    }
    let mut stat = [0; 24];
    stat[0] = CHARACTER_DEVICE;
    stat[8] = RIGHT_TO_WRITE;
    guest.write(arguments.u32(1), &stat)?;
    Ok(SUCCESS)
}

fn fd_write(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    let level = match arguments.u32(0) {
        STANDARD_OUTPUT => LogLevel::Info,
        STANDARD_ERROR => LogLevel::Error,
        _ => return Ok(BAD_FILE),
    };
    let (vectors, count) = (arguments.u32(1), arguments.u32(2));
    let length = count.checked_mul(8).ok_or(Status::InvalidMemoryAccess)?;
    let mut text = Vec::new();
    for vector in guest.read(vectors, length)?.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *vector;
        let (address, length) = (
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        );
        // Vectors may overlap, so only this bounds what is copied.
        if text.len().saturating_add(length as usize) > MAX_WRITE {
            return Ok(INVALID);
        }
        text.extend(guest.read(address, length)?);
    }
    let written = u32::try_from(text.len()).map_err(|_| Status::InvalidMemoryAccess)?;
    guest.write_u32(arguments.u32(3), written)?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    if !text.is_empty() {
        guest.host().log(level, text);
    }
    Ok(SUCCESS)
}

/// Says at once that nothing has happened, as Envoy does, so that a module that sleeps asks again until its time has
/// passed. A virtual clock goes on by the shortest time that was asked for, or it would ask for ever.
fn poll_oneoff(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    let (subscriptions, count) = (arguments.u32(0), arguments.u32(2));
    let length = count
        .checked_mul(SUBSCRIPTION_SIZE)
        .ok_or(Status::InvalidMemoryAccess)?;
    let bytes = guest.read(subscriptions, length)?;
    guest.write_u32(arguments.u32(3), 0)?;
    let now = guest.host().now();
    let due = bytes
        .chunks_exact(SUBSCRIPTION_SIZE as usize)
        .filter_map(|subscription| due(subscription, now))
        .min();
    if let Some(due) = due {
        guest.host().process.sleep_until(due);
    }
    Ok(SUCCESS)
}

/// When a subscription to a clock is due; `None` for one to a file.
fn due(subscription: &[u8], now: u64) -> Option<u64> {
    const CLOCK: u8 = 0;
    const ABSOLUTE: u8 = 1;
    if *subscription.get(8)? != CLOCK {
        return None;
    }
    let timeout = u64::from_le_bytes(subscription.get(24..32)?.try_into().ok()?);
    let is_absolute = subscription.get(40)? & ABSOLUTE != 0;
    Some(if is_absolute {
        timeout
    } else {
        now.saturating_add(timeout)
    })
}

fn proc_exit(guest: &mut Guest<'_>, arguments: &Arguments<'_>) {
    let text = format!("the module called proc_exit({})", arguments.u32(0));
    guest.host().log(LogLevel::Error, text.as_bytes());
}

fn random_get(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    let (address, length) = (arguments.u32(0), arguments.u32(1));
    if length > MAX_RANDOM {
        return Ok(INVALID);
    }
    let length = usize::try_from(length).map_err(|_| Status::InvalidMemoryAccess)?;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(guest.host().next_random().to_le_bytes());
    }
    bytes.truncate(length);
    guest.write(address, &bytes)?;
    Ok(SUCCESS)
}

const STANDARD_OUTPUT: u32 = 1;
const STANDARD_ERROR: u32 = 2;

/// Bytes of a `subscription`: user data, the kind at 8, a clock's time-out at 24 and its flags at 40.
const SUBSCRIPTION_SIZE: u32 = 48;

/// What Envoy's host gives at once, in bytes.
const MAX_RANDOM: u32 = 64 * 1024;

/// What one `fd_write` may log, in bytes.
const MAX_WRITE: usize = 16 * 1024 * 1024;

// Error numbers of WASI preview 1 (`errno`).
const SUCCESS: i32 = 0;
const BAD_FILE: i32 = 8;
pub(super) const FAULT: i32 = 21;
const INVALID: i32 = 28;
const NO_SUCH_FILE: i32 = 44;
const NO_SYSTEM_CALL: i32 = 52;
const NOT_SUPPORTED: i32 = 58;
pub(super) const NOT_CAPABLE: i32 = 76;
