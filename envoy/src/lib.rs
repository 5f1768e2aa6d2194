//! Runs the configuration that is shipped, exactly as it is shipped: Envoy's, and that of other proxies in front of the
//! gateway.
//!
//! Users read `bootstrap.yaml`, `cargo xtask up` starts it and the tests attack it. So it is read as it is, and only
//! addresses, ports and paths in it are changed, by their place in its structure and never as text.

mod bootstrap;
mod front;
mod gateway;
mod stack;

pub use bootstrap::{Bootstrap, plugin_config};
pub use front::Front;
pub use gateway::{Gateway, Streamlit};
pub use stack::{MOUNT, Parts, Stack, StackError};
