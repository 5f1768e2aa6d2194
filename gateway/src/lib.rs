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
mod listener;
mod port;
mod settings;
mod supervisor;
mod tls;
mod worker;

mod downstream;
mod exchange;
mod plan;
mod refusal;
mod reply;

mod http1;
mod http2;
mod tunnel;
mod websocket;

mod observe;

mod admission;
mod body;
mod buffer;
mod health;
mod hop;
mod io;
mod timer;
mod upstream;
mod warnings;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use gateway::{Gateway, GatewayError};
pub use health::Readiness;
pub use port::ReservedPort;
pub use settings::{
    Api, App, Limits, LogFormat, Observe, Origin, Setting, SettingError, SettingErrors, Settings,
    SettingsFile, SettingsFileError, TlsFiles, Upstream,
};
