//! Starts the real programs that the tests of this package put in front of and behind the gateway.
//!
//! - [`front`]: a proxy with a configuration text, such as one that `fluxlit-gateway config --for` printed.
//! - [`app`]: a stand-in for an app that shows what it has received.
//! - [`visitor`]: a client with the public host name, over TLS or not, from any loopback address.
//! - [`session`]: a session of Streamlit, on a WebSocket of such a client.
//! - [`published`]: what every front must guarantee, checked by such a client.
//! - [`generated`]: pages of the documentation that tests write and compare.
//! - [`printed`]: the configuration that the gateway's program prints.
//!
//! `cargo xtask test` installs the programs, and names them in environment variables.

pub mod app;
pub mod front;
pub mod generated;
mod marked;
pub mod printed;
mod programs;
pub mod published;
pub mod session;
pub mod visitor;

pub use marked::{Found, Mark};
pub use programs::named;
