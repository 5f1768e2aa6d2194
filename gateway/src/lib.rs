//! The native gateway: one process in front of a Streamlit app.
//!
//! It applies the edge policy to every request and response, serves health and readiness, proxies HTTP and WebSocket, and
//! can start Streamlit itself. It contains no rules: [`fluxlit_policy`] decides which peers to trust, where each path goes
//! and what a response may contain.
//!
//! ```text
//! main thread      signals, health checks, the child processes
//! worker threads   one single-threaded runtime each: accept, policy, proxy, tunnel
//! ```
//!
//! A connection stays on the worker that accepted it, and so does its upstream connection, so nothing on the path of a
//! request is shared or locked.
//!
//! The folders are layers. A folder may use those below it, never those above or next to it:
//!
//! ```text
//! gateway                starts and stops everything
//! reload                 puts new settings into use
//! fronts                 prints configurations of other proxies
//! server                 accepts connections, speaks HTTP with clients
//! proxy                  handles one request
//! worker                 what the requests of a thread share
//! children    upstream   the child processes; connections and health
//! settings    http       what the operator set; HTTP/1.1 and WebSocket as bytes
//! observe     net        logs, metrics, traces; connections, buffers, timers, TLS
//! build_info public_url  version and commit of the program; the URLs of an app
//! ```

mod gateway;

mod reload;

mod fronts;

mod server;

mod proxy;

mod worker;

mod children;
mod upstream;

mod http;
mod settings;

mod net;
mod observe;

mod build_info;
mod public_url;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use build_info::LONG_VERSION;
pub use children::{
    ChildFailure, DescribeError, Description, Ended, NotAnApp, ReservedPort, describe,
    launch_if_requested, python,
};
pub use fronts::{
    Configuration, ConfigurationFile, Front, FrontError, FrontOptions, FrontTls, configuration,
};
pub use gateway::{Gateway, GatewayError};
pub use public_url::{PublicUrlError, PublicUrlTable, PublicUrls};
pub use settings::{
    Api, ApiApp, ApiProcesses, App, Flag, FluxLitApp, ImportTarget, ImportTargetError, Limits,
    LogFormat, LogLevel, Observe, Origin, Setting, SettingError, SettingErrors, SettingWarning,
    Settings, Sources, StreamlitFileError, StreamlitFiles, TlsFiles, UpstreamUrl,
};

pub use upstream::Readiness;
