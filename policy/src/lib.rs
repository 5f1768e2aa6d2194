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
mod edit;
mod exchange;
mod config_error;
mod config_reader;
mod policy;

mod client;
mod effective;
mod protected_headers;
mod mount;
mod peer;
mod app;
mod target;

mod cookie;
mod drop_cookies;
mod hsts;
mod location;
mod origin;
mod sub_app;
mod response;
mod security_headers;
mod warning_limiter;

mod decision_record;
mod address;
mod forwarded;
mod hosts;
mod header_names;

#[cfg(test)]
mod schema;

pub use decision_record::{Account, HstsOutcome, MountOutcome, TrustOutcome};
pub use config::Defaults;
pub use drop_cookies::DropCookies;
pub use edit::{Edit, Name};
pub use effective::{Effective, Scheme};
pub use exchange::{
    Action, BadTarget, Client, ClientQuality, Decision, Exchange, Forward, Header, Reason, Reply,
    Request, Response, ResponseDecision, UnparsedRequest,
};
pub use config_error::{ConfigError, ConfigErrors, ConfigWarning};
pub use protected_headers::Group;
pub use origin::{AllowedOrigins, OriginOutcome};
pub use sub_app::{Part, PartPath};
pub use peer::Peer;
pub use policy::Policy;
pub use warning_limiter::{MOST_WARNINGS, WARNING_INTERVAL_S, warned_network};
