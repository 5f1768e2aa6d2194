//! Describes how a filter failed, at the start or while it ran.
//!
//! Envoy treats every trap alike: the stream gets a 503, and the failure policy decides about later streams. Here the
//! reason is kept, with the guest's stack and the last lines that it logged.

use wasmtime::{Trap, WasmBacktrace};

use crate::event::LogLine;

/// A failure that ends a VM: none of its callbacks runs any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Callbacks that cause each other, such as by call-outs whose responses cause further ones, would never end.
    #[error(
        "{callback} is called again and again, each time because of what its last call did: {fuel} units of fuel were used \
         without time passing"
    )]
    EndlessChain {
        /// The callback.
        callback: String,
        /// The fuel that all of them may use together.
        fuel: u64,
    },
    /// The callback used up its fuel, so it presumably never returns.
    #[error(
        "{callback} did not return within {fuel} units of fuel{}",
        stack_text(stack)
    )]
    EndlessLoop {
        /// The callback that ran.
        callback: String,
        /// The fuel that it had.
        fuel: u64,
        /// The guest's functions, innermost first.
        stack: Box<[String]>,
    },
    /// The filter made a host call that returns OK, but crashes Envoy 1.40 or corrupts its messages.
    #[error("{callback}: the filter {action}, {effect}")]
    Forbidden {
        /// The callback that made the call.
        callback: String,
        /// What the filter did.
        action: String,
        /// What happens in Envoy 1.40.
        effect: String,
    },
    /// A callback trapped.
    #[error("{callback} trapped: {message}{}", stack_text(stack))]
    Trap {
        /// The callback that ran.
        callback: String,
        /// The message of the engine or the host.
        message: String,
        /// The guest's functions, innermost first.
        stack: Box<[String]>,
        /// The last lines that the context logged.
        logs: Box<[LogLine]>,
    },
}

/// The handling of requests after the VM has failed. The request during which it failed gets a 503 in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// `FAIL_CLOSED`: every further request gets a 503.
    #[default]
    Closed,
    /// `FAIL_OPEN`: every further request bypasses the filter.
    Open,
    /// `FAIL_RELOAD`: the next request gets a new VM, or a 503 if the last new VM is younger than the backoff.
    Reload {
        /// The minimum time between two new VMs; 1 s in Envoy by default.
        backoff: std::time::Duration,
    },
}

/// A plugin did not start. Envoy would not start either, or would keep the plugin that it had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{step} {}", if failure.is_some() { "failed" } else { "returned false" })]
pub struct StartError {
    /// The step that failed, such as `on_configure`.
    pub step: &'static str,
    /// The lines that the module logged until then.
    pub logs: Vec<LogLine>,
    /// The trap; `None` if the step returned false.
    #[source]
    pub failure: Option<Failure>,
}

impl Failure {
    /// Returns the callback that ran.
    pub fn callback(&self) -> &str {
        match self {
            Self::EndlessChain { callback, .. }
            | Self::EndlessLoop { callback, .. }
            | Self::Forbidden { callback, .. }
            | Self::Trap { callback, .. } => callback,
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

/// The number of stack frames that Envoy logs.
const MAX_FRAMES: usize = 20;

const LAST_LINES: usize = 10;
