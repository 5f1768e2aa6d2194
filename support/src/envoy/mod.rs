//! Runs Envoy, and reads what it says about itself.

pub mod bootstrap;
pub mod log;

mod admin;
mod process;

pub use admin::Admin;
pub use process::{Envoy, EnvoyError};
