//! Runs the shipped configurations unchanged: Envoy's, and those of other proxies in front of the gateway.
//!
//! Users read `bootstrap.yaml`, `cargo xtask up` starts it and the tests attack it. So the file is read unchanged, and only
//! addresses, ports and paths are replaced, by their place in the structure and never as text.

mod bootstrap;
mod control_plane;
mod front;
mod gateway;
mod stack;

pub use bootstrap::{Bootstrap, plugin_config, set_plugin_config};
pub use control_plane::{Place, Placed, Surroundings};
pub use front::Front;
pub use gateway::{Gateway, Streamlit};
pub use stack::{MOUNT, Parts, Stack, StackError};
