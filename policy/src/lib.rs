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

// From top to bottom: a module uses only modules below it.
mod build;
mod decision_report;
mod streamlit_paths;
mod sub_app;

mod policy;

mod request_edits;
mod response;
mod route;

mod cookie;
mod decision;
mod link;
mod location;
mod origin;

mod decision_record;
mod exchange;

mod probe_guard;

mod client;

mod app;
mod hsts;
mod probe;
mod protected_headers;
mod security_headers;
mod trust;

mod config;
mod connection_facts;
mod connection_headers;
mod forwarded;
mod header_names;
mod hosts;
mod identity_headers;
mod message;

mod config_reader;
mod drop_cookies;
mod effective;
mod fields;
mod header;
mod header_group;
mod name_list;
mod peer;
mod target;

mod address;
mod config_error;
mod edit;
mod host_name;
mod labels;
mod mount;
mod reason;
mod warning_limiter;

pub use address::AddressText;
pub use client::{Client, ClientSource};
pub use config::Defaults;
pub use config_error::{ConfigError, ConfigErrors, ConfigWarning};
pub use connection_facts::ConnectionFacts;
pub use decision::{Action, Decision, Forward, Reply, ResponseDecision};
pub use decision_record::{
    ArrivedPath, DecisionRecord, HstsOutcome, MountOutcome, PREFIX_IGNORED_WARNING, TrustOutcome,
};
pub use decision_report::{DecisionReport, PathForm, PeerKind, ProbeAnswer, ReportError};
pub use drop_cookies::DropCookies;
pub use edit::{Edit, Edits};
pub use effective::{Effective, Scheme, is_same_host};
pub use exchange::Exchange;
pub use header::{Header, has_control};
pub use header_group::HeaderGroup;
pub use host_name::HostName;
pub use message::{Request, Response, UnparsedRequest};
pub use origin::{AllowedOrigins, OriginOutcome};
pub use peer::Peer;
pub use policy::{Policy, claims_https};
pub use probe::{Hop, Nonce, PROBE_FIELD, PROBE_PATH, Probe, ProbeKey, ProbeOutcome, SEAL_FIELD};
pub use probe_guard::ProbeGuard;
pub use protected_headers::protected_headers;
pub use reason::Reason;
pub use streamlit_paths::{is_asset, is_metrics, is_stream};
pub use sub_app::{SubApp, SubAppPath};
pub use warning_limiter::{WarningLimiter, warning_network};
