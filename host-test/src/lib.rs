//! Tests a proxy-wasm filter without Envoy.
//!
//! Load a filter once, start a plugin of it, open streams, and assert on their outcomes:
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
//! assert_eq!(outcome.upstream.expect("the request is forwarded").headers.get("x-seen"), Some(&b"yes"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! The host supports the proxy-wasm ABI 0.1.0, 0.2.0 and 0.2.1, with the statuses and lifetimes measured in Envoy 1.40 or
//! those of the specification, see [`envoy::Profile`]. It works with filters for any purpose. A trap or an endless loop in
//! the filter is a result, see [`vm::Failure`]; nothing that a filter passes can make the host panic or access memory
//! outside the filter's own.
//!
//! - [`Filter`] is a module, [`Plugin`] a started one, [`Stream`] a request through it, [`Outcome`] the result.
//! - [`Process`] holds the state that several VMs share, and the clock; [`chain`] connects several plugins.
//! - [`vm::Cluster`] scripts a service that a filter calls; [`vm::Fault`] injects a fault of the host.
//! - [`connection`] sends a connection through a network filter.
//! - [`case_file`] runs case files, [`suite`] test suites of Service Extensions.
//! - [`fuzz`] searches for inputs with which a filter fails.
//!
//! # Layers
//!
//! A folder uses only what is listed after it: the program (`bin`) → `case_file`, `suite`, `fuzz` → `chain`, `connection`,
//! `stream`, `plugin`, `process` → `vm` → `envoy` → `event` → `abi`.
//!
//! # Not supported
//!
//! - Envoy's foreign functions that need keys or expressions (`sign`, `verify_signature`, `expr_create` and related ones):
//!   they are `NOT_FOUND` unless [`StartOptions::foreign_functions`] defines their results.
//! - Properties that describe certificates, unless they are among the stream's [`Properties`]. Addresses and names of Envoy's
//!   configuration are constants; `docs/host-test.md` has the table.

pub mod abi;
pub mod case_file;
pub mod chain;
pub mod connection;
pub mod envoy;
pub mod event;
pub mod fuzz;
mod plugin;
mod process;
mod stream;
pub mod suite;
pub mod vm;

pub use abi::header_map::{HeaderMap, lines};
pub use abi::property::Properties;
pub use event::Flow;
pub use plugin::Plugin;
pub use process::Process;
pub use stream::Stream;
pub use vm::filter::Filter;
pub use vm::options::StartOptions;
pub use vm::outcome::Outcome;
