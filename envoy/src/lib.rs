//! Runs the configuration that is shipped, as it is shipped: Envoy's, and that of other proxies in front of the gateway.
//!
//! `bootstrap.yaml` is what users read, what `cargo xtask up` starts and what the tests attack. So it is read as it
//! stands, and only addresses, ports and paths in it are changed, by their place in its structure and never as text.

mod bootstrap;
mod certificate;
mod envoy;
mod front;
mod gateway;
mod process;
mod service;
mod stack;

pub use bootstrap::{Bootstrap, plugin_config};
pub use certificate::Certificate;
pub use envoy::{Envoy, EnvoyError};
pub use front::Front;
pub use gateway::{Gateway, Streamlit};
pub use process::{Process, free_port, free_ports, wait_until};
pub use service::{Service, ServiceError};
pub use stack::{MOUNT, Parts, Stack, StackError, get};
