//! What does a case say, and does an outcome meet it?
//!
//! A case file is JSON, with `//` and `/* */` comments: a configuration, requests as they arrive, what the upstream
//! must receive, what it answers, what the client must get, and what else must have come of it. Every key is described
//! where it is defined, in [`Case`] and its parts, and in `host-test/cases.schema.json`, which is made from them. Text
//! is Latin-1, see [`latin1`]. An error names the line and the key.
//!
//! The cases of this project (`cases/*.json`) are such files. They are run by the policy itself, by the filter under
//! wasmtime and by the filter in real Envoy; each of the three turns a [`Case`] into an [`Outcome`], and this crate
//! compares them.
//!
//! Deliberately not here: how a host runs a case. This crate knows no policy, no wasm and no Envoy, so that it can
//! judge all three.

mod check;
mod comments;
mod connection;
mod expectation;
mod file;
mod format;
mod input;
pub mod latin1;
mod outcome;
mod pattern;
mod read;
#[cfg(test)]
mod schema;

pub use connection::{Close, Connection, ConnectionEvent};
pub use expectation::{
    CallExpectation, Downstream, Finally, Headers, LogExpectation, Matches, MetricExpectation,
    MetricKind, Queue, ReplyExpectation, Upstream,
};
pub use format::{
    Case, CaseFile, Chained, Config, Exchange, ForeignAnswer, Level, Plugin, Policy, Status,
};
pub use input::{Answer, CallAnswer, Failing, Peer, Property, Request, Typed, Version};
pub use outcome::{Outcome, Received, Reply, Served, line_misses};
pub use pattern::{matches_whole, whole};
pub use read::CaseFileError;
