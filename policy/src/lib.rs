//! Decides which forwarded headers to trust, how the mount is rewritten, and when HSTS is sent.
//!
//! The same policy serves two hosts: the proxy-wasm filter and the native gateway both call it, so that they cannot
//! disagree. It is pure: it does no I/O, reads no clock and no environment, does not log, and cannot fail on a request.
//! An invalid request gets a [`Decision`] like any other; an invalid configuration is reported once, at start.
//!
//! Data flows in one direction:
//!
//! ```text
//! JSON (as written) ──▶ Policy ◀── request facts  ──▶ Decision: edits or a reply, and the Exchange
//!                           ▲────── response facts + Exchange ──▶ edits
//! ```

// In reading order; a module uses only those below it.
mod build;
mod sub_app;

mod policy;
mod request_edits;
mod response;
mod route;

mod cookie;
mod location;
mod origin;

mod decision;
mod decision_record;
mod exchange;

mod app;
mod client;
mod header_names;
mod hosts;
mod hsts;
mod message;
mod peer;
mod protected_headers;
mod security_headers;
mod target;

mod config;
mod config_reader;

mod config_error;
mod drop_cookies;
mod edit;
mod effective;
mod forwarded;
mod mount;
mod reason;
mod warning_limiter;

mod header;

mod address;
mod labels;

pub use client::{Client, ClientSource};
pub use config::Defaults;
pub use config_error::{ConfigError, ConfigErrors, ConfigWarning};
pub use decision::{Action, Decision, Forward, Reply, ResponseDecision};
pub use decision_record::{DecisionRecord, HstsOutcome, MountOutcome, TrustOutcome};
pub use drop_cookies::DropCookies;
pub use edit::{Edit, HeaderName};
pub use effective::{Effective, Scheme};
pub use exchange::Exchange;
pub use header::Header;
pub use message::{Request, Response, UnparsedRequest};
pub use origin::{AllowedOrigins, OriginOutcome};
pub use peer::Peer;
pub use policy::Policy;
pub use protected_headers::HeaderGroup;
pub use reason::Reason;
pub use sub_app::{SubApp, SubAppPath};
pub use warning_limiter::{WarningLimiter, warning_network};
