//! Implements the host functions for the plugin as a whole: log, time, ticks, metrics, foreign functions.

use super::foreign;
use super::function::Kind::{I32, I64};
use super::function::{Handler, HostFunction, abi};
use crate::abi::{LogLevel, Status};
use crate::vm::guest::{Arguments, Guest, HostCallResult};
use crate::vm::options::ForeignResult;
use crate::vm::shared::{Metric, MetricKind};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    HostFunction {
        name: "proxy_log",
        parameters: &[I32, I32, I32],
        handler: Handler::EarlyAbi(log),
    },
    abi("proxy_get_log_level", &[I32], log_level),
    abi("proxy_get_current_time_nanoseconds", &[I32], time),
    abi("proxy_set_tick_period_milliseconds", &[I32], set_tick),
    abi("proxy_define_metric", &[I32, I32, I32, I32], define_metric),
    abi("proxy_increment_metric", &[I32, I64], increment_metric),
    abi("proxy_record_metric", &[I32, I64], record_metric),
    abi("proxy_get_metric", &[I32, I32], metric),
    abi(
        "proxy_call_foreign_function",
        &[I32, I32, I32, I32, I32, I32],
        call_foreign_function,
    ),
    HostFunction {
        name: "emscripten_notify_memory_growth",
        parameters: &[I32],
        handler: Handler::Void(|_, _| ()),
    },
    HostFunction {
        name: "pthread_equal",
        parameters: &[I32, I32],
        handler: Handler::Wasi(|_, arguments| Ok(i32::from(arguments.u32(0) == arguments.u32(1)))),
    },
];

fn log(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let level = LogLevel::from_number(arguments.u32(0)).ok_or(Status::BadArgument)?;
    let text = guest.read(arguments.u32(1), arguments.u32(2))?;
    guest.host().log(level, &text);
    Ok(())
}

fn log_level(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let level = guest.host().options.log_level;
    guest.write_u32(arguments.u32(0), level as u32)?;
    Ok(())
}

fn time(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let now = guest.host().now();
    guest.write(arguments.u32(0), &now.to_le_bytes())?;
    Ok(())
}

fn set_tick(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let host = guest.host();
    let now = host.now();
    let plugin = host.plugin().ok_or(Status::BadArgument)?;
    plugin.tick_period = u64::from(arguments.u32(0)).saturating_mul(NANOSECONDS);
    plugin.tick_due = now.saturating_add(plugin.tick_period);
    Ok(())
}

/// Defines a metric. A repeated definition returns a new id for the same metric. The low bits of an id are its kind, as in
/// Envoy.
fn define_metric(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let number = arguments.u32(0);
    let kind = kind(number).ok_or(Status::BadArgument)?;
    let name = guest.read(arguments.u32(1), arguments.u32(2))?;
    let name = String::from_utf8_lossy(&name).into_owned();
    let host = guest.host();
    let index = host.shared.lock().define_metric(&name, kind);
    host.metrics.push(index);
    let id = u32::try_from(host.metrics.len())
        .ok()
        .and_then(|count| count.checked_mul(ID_STEP))
        .ok_or(Status::InternalFailure)?;
    guest.write_u32(arguments.u32(3), id | number)?;
    Ok(())
}

fn increment_metric(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let delta = arguments.i64(1);
    if !is_readable(arguments.u32(0)) {
        return Err(Status::BadArgument.into());
    }
    with_metric(guest, arguments, |metric| match metric.kind {
        MetricKind::Counter if delta > 0 => {
            metric.value = metric.value.wrapping_add(delta.cast_unsigned());
            Ok(())
        }
        MetricKind::Gauge => {
            metric.value = metric.value.wrapping_add_signed(delta);
            Ok(())
        }
        MetricKind::Counter | MetricKind::Histogram => Err(Status::BadArgument),
    })?;
    Ok(())
}

fn record_metric(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let value = arguments.i64(1).cast_unsigned();
    let adds = guest.host().options.profile.adds_recorded_counters();
    with_metric(guest, arguments, |metric| {
        metric.value = match metric.kind {
            MetricKind::Counter if adds => metric.value.wrapping_add(value),
            MetricKind::Counter | MetricKind::Gauge | MetricKind::Histogram => value,
        };
        Ok(())
    })?;
    Ok(())
}

fn metric(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    if !is_readable(arguments.u32(0)) {
        return Err(Status::BadArgument.into());
    }
    let value = with_metric(guest, arguments, |metric| Ok(metric.value))?;
    guest.write(arguments.u32(1), &value.to_le_bytes())?;
    Ok(())
}

/// Returns true if an id is that of a counter or gauge, even an unknown one.
fn is_readable(id: u32) -> bool {
    matches!(
        kind(id % ID_STEP),
        Some(MetricKind::Counter | MetricKind::Gauge)
    )
}

fn kind(number: u32) -> Option<MetricKind> {
    match number {
        0 => Some(MetricKind::Counter),
        1 => Some(MetricKind::Gauge),
        2 => Some(MetricKind::Histogram),
        _ => None,
    }
}

fn with_metric<T>(
    guest: &mut Guest<'_>,
    arguments: &Arguments<'_>,
    action: impl FnOnce(&mut Metric) -> Result<T, Status>,
) -> Result<T, Status> {
    let id = arguments.u32(0);
    let host = guest.host();
    let index = usize::try_from(id / ID_STEP)
        .ok()
        .and_then(|number| number.checked_sub(1))
        .and_then(|index| host.metrics.get(index).copied())
        .ok_or(Status::NotFound)?;
    let mut state = host.shared.lock();
    let metric = state
        .metric(index)
        .filter(|metric| Some(metric.kind) == kind(id % ID_STEP))
        .ok_or(Status::NotFound)?;
    action(metric)
}

/// Calls a foreign function: the start options take precedence over Envoy's own functions.
fn call_foreign_function(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> HostCallResult {
    let name = guest.read(arguments.u32(0), arguments.u32(1))?;
    let passed = guest.read(arguments.u32(2), arguments.u32(3))?;
    let known = std::str::from_utf8(&name)
        .ok()
        .and_then(|name| guest.host().options.foreign_functions.get(name).cloned());
    let ForeignResult { status, bytes } = match known {
        Some(result) => result,
        None => {
            let function = foreign::named(&name).ok_or(Status::NotFound)?;
            ForeignResult {
                status: Status::Ok,
                bytes: function(guest.host(), &passed)?,
            }
        }
    };
    // A caller that ignores the result passes null pointers.
    let (address_pointer, length_pointer) = (arguments.u32(4), arguments.u32(5));
    if address_pointer != 0 && length_pointer != 0 {
        guest.return_bytes(&bytes, address_pointer, length_pointer)?;
    } else if length_pointer != 0 {
        let length = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
        guest.write_u32(length_pointer, length)?;
    } else if address_pointer != 0 {
        guest.write_u32(address_pointer, 0)?;
    }
    match status {
        Status::Ok => Ok(()),
        status => Err(status.into()),
    }
}

/// The distance between ids of metrics, which leaves the low bits for the kind.
const ID_STEP: u32 = 4;

/// Nanoseconds in a millisecond.
const NANOSECONDS: u64 = 1_000_000;
