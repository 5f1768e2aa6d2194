//! How does a filter fail while it runs?
//!
//! Envoy treats every trap alike: the stream is answered with 503, and the failure policy decides over the streams that
//! follow. Here the reason is kept, with the guest's stack and the last lines that it logged.

use wasmtime::{Trap, WasmBacktrace};

use crate::vm::state::LogLine;

/// The end of a VM: no callback of it runs any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The callback used up its fuel, so it presumably never returns.
    #[error(
        "{callback} did not return within {fuel} units of fuel{}",
        stack_text(stack)
    )]
    EndlessLoop {
        /// The callback that ran.
        callback: String,
        /// The units it was given.
        fuel: u64,
        /// The guest's functions, innermost first.
        stack: Box<[String]>,
    },
    /// A callback trapped.
    #[error("{callback} trapped: {message}{}", stack_text(stack))]
    Trap {
        /// The callback that ran.
        callback: String,
        /// What the engine or the host says.
        message: String,
        /// The guest's functions, innermost first.
        stack: Box<[String]>,
        /// The last lines that the context logged.
        logs: Box<[LogLine]>,
    },
}

/// What becomes of requests when the VM has failed. The request that made it fail is answered with 503 in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// `FAIL_CLOSED`: every further request is answered with 503.
    #[default]
    Closed,
    /// `FAIL_OPEN`: every further request passes the filter by.
    Open,
    /// `FAIL_RELOAD`: the next request gets a new VM, unless the last one is younger than the backoff: then 503.
    Reload {
        /// The shortest time between two new VMs; 1 s in Envoy unless configured.
        backoff: std::time::Duration,
    },
}

impl Failure {
    /// The callback that ran.
    pub fn callback(&self) -> &str {
        match self {
            Self::EndlessLoop { callback, .. } | Self::Trap { callback, .. } => callback,
        }
    }

    pub(crate) fn new(
        callback: &str,
        fuel: u64,
        error: &wasmtime::Error,
        logs: &[LogLine],
    ) -> Self {
        let callback = callback.to_owned();
        let stack = error
            .downcast_ref::<WasmBacktrace>()
            .map_or_else(Box::default, frames);
        if error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel) {
            Self::EndlessLoop {
                callback,
                fuel,
                stack,
            }
        } else {
            let start = logs.len().saturating_sub(LAST_LINES);
            Self::Trap {
                callback,
                message: error.root_cause().to_string(),
                stack,
                logs: logs.get(start..).unwrap_or_default().into(),
            }
        }
    }
}

fn frames(backtrace: &WasmBacktrace) -> Box<[String]> {
    backtrace
        .frames()
        .iter()
        .take(MAX_FRAMES)
        .map(|frame| match frame.func_name() {
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", frame.func_index()),
        })
        .collect()
}

fn stack_text(stack: &[String]) -> String {
    if stack.is_empty() {
        String::new()
    } else {
        format!(" (in {})", stack.join(", called by "))
    }
}

/// As many as Envoy prints.
const MAX_FRAMES: usize = 20;

const LAST_LINES: usize = 10;
