//! Describes how a filter failed, at the start or while it ran.
//!
//! Envoy treats every trap alike: the stream gets a 503, and the failure policy decides about later streams. Here the
//! reason is kept, with the guest's stack and the last lines that it logged. A module that panics logs why and then traps, so
//! its message is what the failure says first; the frames of Rust's standard library, through which every panic goes, are
//! counted instead of named.

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
        /// The message of the engine or the host, after that of the module's panic if it logged one, such as `panicked at
        /// src/lib.rs:1:2: text`.
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

    /// Returns the guest's functions that ran, innermost first.
    pub fn stack(&self) -> &[String] {
        match self {
            Self::EndlessLoop { stack, .. } | Self::Trap { stack, .. } => stack,
            Self::EndlessChain { .. } | Self::Forbidden { .. } => &[],
        }
    }

    pub(crate) fn new(
        callback: &str,
        fuel: u64,
        error: &wasmtime::Error,
        logs: &[LogLine],
        error_lines: &[String],
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
                message: match panic_message(error_lines) {
                    Some(panic) => format!("{panic}; {}", error.root_cause()),
                    None => error.root_cause().to_string(),
                },
                stack,
                logs: logs.get(start..).unwrap_or_default().into(),
            }
        }
    }
}

/// Returns the message of a panic among the lines that a callback logged as errors, in one line.
///
/// Rust's SDK logs it, Rust's standard library and Go write it to standard error, perhaps in several pieces, and
/// AssemblyScript's runtime logs it.
fn panic_message(error_lines: &[String]) -> Option<String> {
    let start = error_lines
        .iter()
        .position(|line| PANICS.iter().any(|text| line.contains(text)))?;
    let text = error_lines.get(start..)?.join(" ");
    let begin = PANICS.iter().filter_map(|panic| text.find(panic)).min()?;
    let text = text.get(begin..)?;
    let end = AFTER_MESSAGE
        .iter()
        .filter_map(|after| text.find(after))
        .min();
    let text = text.get(..end.unwrap_or(text.len()))?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Returns the names of the functions, with those of the standard library counted.
fn frames(backtrace: &WasmBacktrace) -> Box<[String]> {
    let names = backtrace
        .frames()
        .iter()
        .map(|frame| match frame.func_name() {
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", frame.func_index()),
        });
    fold(names)
}

fn fold(names: impl Iterator<Item = String>) -> Box<[String]> {
    let mut frames = Vec::new();
    let mut folded = 0;
    let add_folded = |frames: &mut Vec<String>, folded: &mut usize| {
        match std::mem::take(folded) {
            0 => {}
            1 => frames.push("1 frame of std".to_owned()),
            count => frames.push(format!("{count} frames of std")),
        };
    };
    for name in names {
        if is_std(&name) {
            folded += 1;
        } else {
            add_folded(&mut frames, &mut folded);
            frames.push(name);
        }
    }
    add_folded(&mut frames, &mut folded);
    frames.truncate(MAX_FRAMES);
    frames.into()
}

/// Returns true for a function of Rust's standard library.
fn is_std(name: &str) -> bool {
    let path = name.trim_start_matches(['<', '&']);
    STD_CRATES.iter().any(|prefix| path.starts_with(prefix)) || STD_FUNCTIONS.contains(&name)
}

fn stack_text(stack: &[String]) -> String {
    if stack.is_empty() {
        String::new()
    } else {
        format!(" (in {})", stack.join(", called by "))
    }
}

/// Texts with which the messages of panics begin: those of Rust, Go and AssemblyScript.
const PANICS: [&str; 4] = ["panicked at ", "panic: ", "fatal error: ", "abort: "];

/// What follows the message of a panic.
const AFTER_MESSAGE: [&str; 3] = ["note: run with", "goroutine ", "stack backtrace:"];

const STD_CRATES: [&str; 4] = ["alloc::", "core::", "std::", "__rustc::"];

const STD_FUNCTIONS: [&str; 4] = [
    "abort",
    "rust_begin_unwind",
    "rust_panic",
    "__rust_start_panic",
];

/// The number of stack frames that Envoy logs.
const MAX_FRAMES: usize = 20;

const LAST_LINES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_message(lines: &[&str], want: Option<&str>) {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(panic_message(&lines).as_deref(), want);
    }

    #[test]
    fn the_message_of_a_panic_is_found_among_errors() {
        check_message(&[], None);
        check_message(&["an error"], None);
        check_message(
            &["an error", "panicked at src/lib.rs:1:2:\nno reason"],
            Some("panicked at src/lib.rs:1:2: no reason"),
        );
        check_message(
            &["\nthread '<unnamed>' panicked at a.rs:1:2:\nno\nnote: run with `RUST_BACKTRACE=1`"],
            Some("panicked at a.rs:1:2: no"),
        );
        check_message(
            &[
                "panic: ",
                "index out of range [5] with length 2",
                "\n\ngoroutine 1 [running]:",
            ],
            Some("panic: index out of range [5] with length 2"),
        );
        check_message(
            &["abort: no reason at assembly/index.ts(1:2)"],
            Some("abort: no reason at assembly/index.ts(1:2)"),
        );
    }

    #[test]
    fn frames_of_std_are_counted() {
        let names = [
            "abort",
            "std::process::abort",
            "core::panicking::panic_fmt",
            "<filter::Filter as proxy_wasm::traits::HttpContext>::on_http_request_headers",
            "<alloc::vec::Vec<T> as core::ops::Index<I>>::index",
            "stdlib::run",
        ];
        let want = [
            "3 frames of std",
            "<filter::Filter as proxy_wasm::traits::HttpContext>::on_http_request_headers",
            "1 frame of std",
            "stdlib::run",
        ];
        assert_eq!(*fold(names.into_iter().map(str::to_owned)), want);
    }
}
