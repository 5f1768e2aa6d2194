//! What does a proxy-wasm HTTP filter do, seen without Envoy?
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
//! The host speaks the proxy-wasm ABI 0.2.0 and 0.2.1 with the statuses and lifetimes measured in Envoy 1.40, where
//! they differ from the specification. It knows nothing of what a filter is for. A trap or an endless loop in the
//! filter is a result, see [`Failure`]; nothing a filter passes can make the host panic or reach outside the filter's
//! memory.
//!
//! # What is not there
//!
//! - ABI 0.1.0, network (L4) callbacks: a module of that version is refused at load.
//! - Call-outs: `proxy_http_call` and `proxy_grpc_*` answer `UNIMPLEMENTED` (12), `proxy_get_status` likewise.
//! - Foreign functions other than `clear_route_cache` answer `NOT_FOUND`.
//! - Properties: those of the request and response maps, and what [`Properties`] is given; others are `NOT_FOUND`.
//! - WASI: the 21 functions that the SDKs' modules import, of Envoy's 45; a module that wants another is refused.
//! - Several plugins in a chain, several VMs: one plugin is one VM, and shared data and queues live in it.

mod abi;
pub mod cases;
pub mod envoy;
mod exchange;
mod failure;
mod filter;
mod guest;
mod header_map;
mod host;
mod imports;
mod inspection;
mod outcome;
mod plugin;
mod property;
mod reply;
mod stream;
mod vm;

pub use abi::{LogLevel, Status};
pub use failure::Failure;
pub use filter::{Filter, LoadError};
pub use header_map::{HeaderMap, lines};
pub use host::{LogLine, Metric, MetricKind};
pub use inspection::{Import, Inspection};
pub use outcome::{Message, Outcome};
pub use plugin::{Clock, Plugin, Refused, StartOptions};
pub use property::{Properties, Value};
pub use reply::LocalReply;
pub use stream::{Flow, Side, Stream};
