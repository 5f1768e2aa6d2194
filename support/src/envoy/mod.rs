//! Runs Envoy, and reads its admin interface and its log.

pub mod bootstrap;
pub mod log;

mod admin;
mod process;

pub use admin::Admin;
pub use process::{Envoy, EnvoyError};
