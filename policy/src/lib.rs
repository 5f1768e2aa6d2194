//! Which forwarded headers to believe, how the mount is rewritten, when HSTS is sent.
//!
//! One policy, two hosts: the proxy-wasm filter and the native gateway both call it, so that they cannot disagree.
//! It is pure. It does no I/O, reads no clock and no environment, does not log, and cannot fail on a request: what is
//! wrong with a request is part of the [`Decision`]; what is wrong with a configuration is said once, at start.
//!
//! Data flows one way:
//!
//! ```text
//! JSON (as written) ──▶ Policy ◀── request facts  ──▶ Decision: edits or a reply, and the Exchange
//!                           ▲────── response facts + Exchange ──▶ edits
//! ```

mod config;
mod config_error;
mod config_reader;
mod edit;
mod exchange;
mod policy;

mod app;
mod client;
mod effective;
mod mount;
mod peer;
mod protected_headers;
mod reason;
mod target;

mod cookie;
mod drop_cookies;
mod hsts;
mod labels;
mod location;
mod origin;
mod response;
mod security_headers;
mod sub_app;
mod warning_limiter;

mod address;
mod decision_record;
mod forwarded;
mod header_names;
mod hosts;

#[cfg(test)]
mod schema;

pub use config::Defaults;
pub use config_error::{ConfigError, ConfigErrors, ConfigWarning};
pub use decision_record::{DecisionRecord, HstsOutcome, MountOutcome, TrustOutcome};
pub use drop_cookies::DropCookies;
pub use edit::{Edit, HeaderName};
pub use effective::{Effective, Scheme};
pub use exchange::{
    Action, Client, ClientSource, Decision, Exchange, Forward, Header, Reply, Request, Response,
    ResponseDecision,
};
pub use origin::{AllowedOrigins, OriginOutcome};
pub use peer::Peer;
pub use policy::Policy;
pub use protected_headers::HeaderGroup;
pub use reason::Reason;
pub use sub_app::{SubApp, SubAppPath};
pub use warning_limiter::{WarningLimiter, warning_network};
