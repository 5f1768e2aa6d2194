//! Which host functions serve the plugin as a whole: log, time, tick, metrics, foreign functions?

use super::Kind::{I32, I64};
use super::{Action, HostFunction, abi};
use crate::abi::{LogLevel, Status};
use crate::guest::{Answer, Arguments, Guest};
use crate::host::{Metric, MetricKind};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    HostFunction {
        name: "proxy_log",
        parameters: &[I32, I32, I32],
        action: Action::EarlyAbi(log),
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
        action: Action::Silent(|_, _| ()),
    },
    HostFunction {
        name: "pthread_equal",
        parameters: &[I32, I32],
        action: Action::Wasi(|_, arguments| Ok(i32::from(arguments.u32(0) == arguments.u32(1)))),
    },
];

fn log(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let level = LogLevel::from_number(arguments.u32(0)).ok_or(Status::BadArgument)?;
    let text = guest.read(arguments.u32(1), arguments.u32(2))?;
    guest.host().log(level, &text);
    Ok(())
}

/// Everything is logged here, so the level is always the lowest.
fn log_level(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    guest.write_u32(arguments.u32(0), LogLevel::Trace as u32)?;
    Ok(())
}

fn time(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let now = guest.host().now();
    guest.write(arguments.u32(0), &now.to_le_bytes())?;
    Ok(())
}

fn set_tick(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    guest.host().tick_period = arguments.u32(0);
    Ok(())
}

/// Defining a name again gives the same id here and a new id for the same metric in Envoy: no module can tell.
fn define_metric(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let kind = match arguments.u32(0) {
        0 => MetricKind::Counter,
        1 => MetricKind::Gauge,
        2 => MetricKind::Histogram,
        _ => return Err(Status::BadArgument.into()),
    };
    let name = guest.read(arguments.u32(1), arguments.u32(2))?;
    let name = String::from_utf8_lossy(&name).into_owned();
    let metrics = &mut guest.host().metrics;
    let known = metrics
        .iter()
        .position(|(other, metric)| *other == name && metric.kind == kind);
    let place = known.unwrap_or_else(|| {
        metrics.push((name, Metric { kind, value: 0 }));
        metrics.len() - 1
    });
    let id = u32::try_from(place).map_err(|_| Status::InternalFailure)?;
    guest.write_u32(arguments.u32(3), id)?;
    Ok(())
}

fn increment_metric(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let delta = arguments.i64(1);
    let metric = find_metric(guest, arguments)?;
    match metric.kind {
        MetricKind::Counter if delta > 0 => {
            metric.value = metric.value.wrapping_add(delta.cast_unsigned());
        }
        MetricKind::Gauge => metric.value = metric.value.wrapping_add_signed(delta),
        MetricKind::Counter | MetricKind::Histogram => return Err(Status::BadArgument.into()),
    }
    Ok(())
}

fn record_metric(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let value = arguments.i64(1).cast_unsigned();
    let metric = find_metric(guest, arguments)?;
    match metric.kind {
        // A counter is added to, not set: measured in Envoy 1.40.
        MetricKind::Counter => metric.value = metric.value.wrapping_add(value),
        MetricKind::Gauge | MetricKind::Histogram => metric.value = value,
    }
    Ok(())
}

fn metric(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let metric = find_metric(guest, arguments)?;
    if metric.kind == MetricKind::Histogram {
        return Err(Status::BadArgument.into());
    }
    let value = metric.value;
    guest.write(arguments.u32(1), &value.to_le_bytes())?;
    Ok(())
}

fn find_metric<'a>(
    guest: &'a mut Guest<'_>,
    arguments: &Arguments<'_>,
) -> Result<&'a mut Metric, Status> {
    let place = usize::try_from(arguments.u32(0)).map_err(|_| Status::NotFound)?;
    let (_, metric) = guest
        .host()
        .metrics
        .get_mut(place)
        .ok_or(Status::NotFound)?;
    Ok(metric)
}

/// `clear_route_cache` has no effect that a filter could see, since there are no routes here.
fn call_foreign_function(guest: &mut Guest<'_>, arguments: &Arguments<'_>) -> Answer {
    let name = guest.read(arguments.u32(0), arguments.u32(1))?;
    guest.read(arguments.u32(2), arguments.u32(3))?;
    if name != b"clear_route_cache" {
        return Err(Status::NotFound.into());
    }
    // A caller that wants no result passes address 0.
    for place in [arguments.u32(4), arguments.u32(5)] {
        if place != 0 {
            guest.write_u32(place, 0)?;
        }
    }
    Ok(())
}
