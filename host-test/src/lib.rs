//! What does a proxy-wasm filter do, seen without Envoy?
//!
//! Load a filter once, start a plugin of it, open streams, and look at what came of them:
//!
//! ```
//! use host_test::{Filter, Flow, Properties, StartOptions, lines};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let filter = Filter::from_bytes(&wat::parse_str(
//!     r#"(module
//!         (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
//!         (memory (export "memory") 1)
//!         (data (i32.const 16) "x-seen")
//!         (data (i32.const 32) "yes")
//!         (func (export "proxy_abi_version_0_2_1"))
//!         (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
//!         (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
//!             (call $add (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 32) (i32.const 3))))"#,
//! )?)?;
//! let plugin = filter.start(StartOptions::default())?;
//! let mut stream = plugin.stream(Properties::default());
//! let flow = stream.request_headers(lines(&[(":method", "GET"), (":path", "/")]), true);
//! assert_eq!(flow, Flow::Continue);
//! let outcome = stream.finish();
//! assert_eq!(outcome.upstream.expect("it went on").headers.get("x-seen"), Some(&b"yes"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! The host speaks the proxy-wasm ABI 0.1.0, 0.2.0 and 0.2.1 with the statuses and lifetimes measured in Envoy 1.40, or
//! those of the specification, see [`Profile`]. It knows nothing of what a filter is for. A trap or an endless loop in
//! the filter is a result, see [`Failure`]; nothing a filter passes can make the host panic or reach outside the filter's
//! memory.
//!
//! - [`Filter`] is a module, [`Plugin`] a started one, [`Stream`] a request through it, [`Outcome`] what came of it.
//! - [`Process`] holds what several VMs share, and time; [`Chain`] puts several plugins behind each other.
//! - [`Upstream`] scripts the services that a filter calls, [`Fault`] what goes wrong on purpose.
//! - [`Connection`] is a connection through a network filter.
//! - [`case_file`] runs case files, [`suite`] test suites of Service Extensions.
//! - [`fuzz`] looks for inputs under which a filter fails.
//!
//! # What is not there
//!
//! - Envoy's foreign functions that need keys or expressions (`sign`, `verify_signature`, `expr_create` and its kin): they
//!   are `NOT_FOUND` unless [`StartOptions::foreign_functions`] answers for them.
//! - Properties beside those of the messages' fields, the filter state, `request.time`, `connection.mtls`, and what
//!   [`Properties`] is given: sizes, durations, ids and addresses, which are `NOT_FOUND`.

mod abi;
pub mod case_file;
mod chain;
mod connection;
pub mod envoy;
pub mod fuzz;
mod plugin;
mod process;
mod stream;
pub mod suite;
mod vm;

pub use abi::header_map::{HeaderMap, lines};
pub use abi::property::{Properties, Value};
pub use abi::{LogLevel, Status};
pub use chain::{Chain, ChainOutcome, ChainStream};
pub use connection::{ClosedBy, Connection};
pub use envoy::local_reply::LocalReply;
pub use envoy::profile::{Profile, Rule};
pub use plugin::{Clock, ForeignAnswer, Plugin, Refused, StartOptions};
pub use process::{Metric, MetricKind, Process};
pub use stream::{Flow, Side, Stream};
pub use vm::call_out::{Answer, CallKind, CallOut, DelayedAnswer, GrpcEvent, Upstream};
pub use vm::failure::{Failure, FailurePolicy};
pub use vm::fault::{Fault, FaultPoint};
pub use vm::filter::{Filter, LoadError, LoadOptions, Unknown};
pub use vm::inspection::{Import, Inspection};
pub use vm::outcome::{Message, Outcome};
pub use vm::state::LogLine;
pub use vm::trace::HostCall;

/// The names of all host functions that answer with a status: the places where a [`Fault`] can strike.
pub fn host_functions() -> Vec<&'static str> {
    vm::imports::status_functions().collect()
}
