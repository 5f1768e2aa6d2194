//! The native gateway: one process in front of a Streamlit app.
//!
//! It applies the edge policy to every request and response, answers health and readiness, proxies HTTP and WebSocket,
//! and can start Streamlit itself. It has no rule of its own: whom to believe, which path goes where and what a
//! response may say is decided by [`fluxlit_policy`].
//!
//! ```text
//! main thread      signals, readiness probe, the Streamlit process
//! worker threads   one single-threaded runtime each: accept, policy, proxy, tunnel
//! ```
//!
//! A connection lives on the worker that accepted it, and so does its upstream connection, so nothing on a request's
//! way is shared or locked.

mod gateway;
mod server;

mod proxy;
mod worker;

mod streamlit;
mod upstream;

mod http;
mod settings;

mod net;
mod observe;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use gateway::{Gateway, GatewayError};
pub use settings::{
    Api, App, Limits, LogFormat, Observe, Origin, Setting, SettingError, SettingErrors, Settings,
    SettingsFile, SettingsFileError, TlsFiles, Upstream,
};
pub use streamlit::ReservedPort;
pub use upstream::Readiness;
