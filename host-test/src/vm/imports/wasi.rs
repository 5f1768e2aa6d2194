//! Implements WASI preview 1 as Envoy does.
//!
//! Standard output and error go to the log, there are no files and no arguments, the environment is a setting of the plugin,
//! and `proc_exit` logs and returns, so that the module traps by itself. Random numbers are seeded and the clock is that of
//! the host, so that a run can be repeated.

use super::function::Kind::{I32, I64};
use super::function::{Handler, HostFunction, Kind};
use crate::abi::{LogLevel, Status, errno};
use crate::vm::guest::{Arguments, Guest};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    wasi("args_get", &[I32, I32], succeed),
    wasi("args_sizes_get", &[I32, I32], no_strings),
    wasi("clock_res_get", &[I32, I32], |_, _| Ok(errno::NOTSUP)),
    wasi("clock_time_get", &[I32, I64, I32], clock_time_get),
    wasi("environ_get", &[I32, I32], environ_get),
    wasi("environ_sizes_get", &[I32, I32], environ_sizes_get),
    wasi("fd_close", &[I32], |_, _| Ok(errno::NOSYS)),
    wasi("fd_fdstat_get", &[I32, I32], fd_fdstat_get),
    wasi("fd_fdstat_set_flags", &[I32, I32], |_, _| Ok(errno::NOSYS)),
    wasi("fd_filestat_get", &[I32, I32], |_, _| Ok(errno::NOTSUP)),
    wasi("fd_prestat_dir_name", &[I32, I32, I32], |_, _| {
        Ok(errno::NOSYS)
    }),
    wasi("fd_prestat_get", &[I32, I32], |_, _| Ok(errno::BADF)),
    wasi("fd_read", &[I32, I32, I32, I32], |_, _| Ok(errno::NOSYS)),
    wasi("fd_seek", &[I32, I64, I32, I32], |_, _| Ok(errno::NOSYS)),
    wasi("fd_write", &[I32, I32, I32, I32], fd_write),
    wasi("path_filestat_get", &[I32, I32, I32, I32, I32], |_, _| {
        Ok(errno::NOTSUP)
    }),
    wasi(
        "path_open",
        &[I32, I32, I32, I32, I32, I64, I64, I32, I32],
        |_, _| Ok(errno::NOENT),
    ),
    wasi("poll_oneoff", &[I32, I32, I32, I32], poll_oneoff),
    HostFunction {
        name: "proc_exit",
        parameters: &[I32],
        handler: Handler::Void(proc_exit),
    },
    wasi("random_get", &[I32, I32], random_get),
    wasi("sched_yield", &[], succeed),
    unsupported("fd_advise", &[I32, I64, I64, I32]),
    unsupported("fd_allocate", &[I32, I64, I64]),
    unsupported("fd_datasync", &[I32]),
    unsupported("fd_fdstat_set_rights", &[I32, I64, I64]),
    unsupported("fd_filestat_set_size", &[I32, I64]),
    unsupported("fd_filestat_set_times", &[I32, I64, I64, I32]),
    unsupported("fd_pread", &[I32, I32, I32, I64, I32]),
    unsupported("fd_pwrite", &[I32, I32, I32, I64, I32]),
    unsupported("fd_readdir", &[I32, I32, I32, I64, I32]),
    unsupported("fd_renumber", &[I32, I32]),
    unsupported("fd_sync", &[I32]),
    unsupported("fd_tell", &[I32, I32]),
    unsupported("path_create_directory", &[I32, I32, I32]),
    unsupported(
        "path_filestat_set_times",
        &[I32, I32, I32, I32, I64, I64, I32],
    ),
    unsupported("path_link", &[I32, I32, I32, I32, I32, I32, I32]),
    unsupported("path_readlink", &[I32, I32, I32, I32, I32, I32]),
    unsupported("path_remove_directory", &[I32, I32, I32]),
    unsupported("path_rename", &[I32, I32, I32, I32, I32, I32]),
    unsupported("path_symlink", &[I32, I32, I32, I32, I32]),
    unsupported("path_unlink_file", &[I32, I32, I32]),
    unsupported("proc_raise", &[I32]),
    unsupported("sock_recv", &[I32, I32, I32, I32, I32, I32]),
    unsupported("sock_send", &[I32, I32, I32, I32, I32]),
    unsupported("sock_shutdown", &[I32, I32]),
];

/// Builds a function that is linked but not supported.
const fn unsupported(name: &'static str, parameters: &'static [Kind]) -> HostFunction {
    wasi(name, parameters, |_, _| Ok(errno::NOSYS))
}

const fn wasi(
    name: &'static str,
    parameters: &'static [Kind],
    handler: fn(&mut Guest<'_>, &Arguments<'_>) -> Result<i32, Status>,
) -> HostFunction {
    HostFunction {
        name,
        parameters,
        handler: Handler::Wasi(handler),
    }
}

fn succeed(_guest: &mut Guest<'_>, _arguments: &Arguments<'_>) -> Result<i32, Status> {
    Ok(errno::SUCCESS)
}

/// Returns an empty list of strings: its count and its size are 0.
fn no_strings(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    guest.write_u32(arguments.u32(0), 0)?;
    guest.write_u32(arguments.u32(1), 0)?;
    Ok(errno::SUCCESS)
}

fn environ_sizes_get(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    let lines = environment(guest);
    let size: usize = lines.iter().map(Vec::len).sum();
    for (index, number) in [(0, lines.len()), (1, size)] {
        let number = u32::try_from(number).map_err(|_| Status::InvalidMemoryAccess)?;
        guest.write_u32(arguments.u32(index), number)?;
    }
    Ok(errno::SUCCESS)
}

/// Writes the addresses of the lines, and the lines one after another.
fn environ_get(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    let (mut pointer, mut address) = (arguments.u32(0), arguments.u32(1));
    for line in environment(guest) {
        guest.write_u32(pointer, address)?;
        guest.write(address, &line)?;
        let length = u32::try_from(line.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        pointer = pointer.checked_add(4).ok_or(Status::InvalidMemoryAccess)?;
        address = address
            .checked_add(length)
            .ok_or(Status::InvalidMemoryAccess)?;
    }
    Ok(errno::SUCCESS)
}

/// Returns `NAME=value` and a zero byte for each variable.
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
        return Ok(errno::NOTSUP);
    }
    let now = guest.host().now();
    guest.write(arguments.u32(2), &now.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

/// Writes the `fdstat` of a writable character device. Only standard output and error exist.
fn fd_fdstat_get(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    const CHARACTER_DEVICE: u8 = 2;
    const RIGHT_TO_WRITE: u8 = 1 << 6;
    if !matches!(arguments.u32(0), STANDARD_OUTPUT | STANDARD_ERROR) {
        return Ok(errno::BADF);
    }
    let mut stat = [0; 24];
    stat[0] = CHARACTER_DEVICE;
    stat[8] = RIGHT_TO_WRITE;
    guest.write(arguments.u32(1), &stat)?;
    Ok(errno::SUCCESS)
}

fn fd_write(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Result<i32, Status> {
    let level = match arguments.u32(0) {
        STANDARD_OUTPUT => LogLevel::Info,
        STANDARD_ERROR => LogLevel::Error,
        _ => return Ok(errno::BADF),
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
        // Vectors may overlap, so the memory size does not bound the total.
        if text.len().saturating_add(length as usize) > MAX_WRITE {
            return Ok(errno::INVAL);
        }
        text.extend(guest.read(address, length)?);
    }
    let written = u32::try_from(text.len()).map_err(|_| Status::InvalidMemoryAccess)?;
    guest.write_u32(arguments.u32(3), written)?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    if !text.is_empty() {
        guest.host().log(level, text);
    }
    Ok(errno::SUCCESS)
}

/// Returns at once without an event, as Envoy does, so that a sleeping module polls again until its time has passed. A
/// virtual clock advances to the earliest requested time; otherwise the module would poll forever.
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
        guest.host().shared.lock().sleep_until(due);
    }
    Ok(errno::SUCCESS)
}

/// Returns the time at which a subscription to a clock is due; `None` for a subscription to a file.
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
        return Ok(errno::INVAL);
    }
    let length = usize::try_from(length).map_err(|_| Status::InvalidMemoryAccess)?;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(guest.host().next_random().to_le_bytes());
    }
    bytes.truncate(length);
    guest.write(address, &bytes)?;
    Ok(errno::SUCCESS)
}

const STANDARD_OUTPUT: u32 = 1;
const STANDARD_ERROR: u32 = 2;

/// The size of a `subscription`: user data, the kind at 8, a clock's timeout at 24 and its flags at 40.
const SUBSCRIPTION_SIZE: u32 = 48;

/// The maximum number of random bytes in one call, as in Envoy.
const MAX_RANDOM: u32 = 64 * 1024;

/// The maximum number of bytes that one `fd_write` may log.
const MAX_WRITE: usize = 16 * 1024 * 1024;
