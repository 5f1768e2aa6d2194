//! Connects to the upstream servers, Streamlit and the API, and checks their health.
//!
//! May use `settings`, `http`, `observe` and `net`.

pub(crate) mod health;
pub(crate) mod pool;

pub use health::Readiness;
