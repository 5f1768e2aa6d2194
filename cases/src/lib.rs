//! Defines the format of case files, and compares outcomes with what a case expects.
//!
//! A case file is JSON with `//` and `/* */` comments: a configuration, requests as they arrive, what the upstream must
//! receive, how it responds, what the client must receive, and which other effects are expected. Every key is described where
//! it is defined, in [`Case`] and its parts, and in `host-test/cases.schema.json`, which is generated from them. Text is
//! Latin-1, see [`latin1`]. An error names the line and the key.
//!
//! The cases of this project (`cases/*.json`) are such files. They are run by the policy itself, by the filter under
//! wasmtime and by the filter in real Envoy; each of the three turns a [`Case`] into an [`Outcome`], and this crate compares
//! them.
//!
//! Deliberately not here: how a host runs a case. This crate depends on neither the policy, wasm nor Envoy, so that it can
//! compare all three.

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
    CallExpectation, DownstreamExpectation, Finally, Headers, LogExpectation, Matches,
    MetricExpectation, MetricKind, Queue, ReplyExpectation, UpstreamExpectation,
};
pub use format::{
    Case, CaseFile, ChainedPlugin, Config, Exchange, FailurePolicy, ForeignAnswer, InjectedFault,
    Level, PluginSetup, Status,
};
pub use input::{Answer, CallAnswer, CallFailure, Peer, Property, Request, TypedValue, Version};
pub use outcome::{DownstreamResponse, ExchangeOutcome, Outcome, UpstreamRequest, line_mismatches};
pub use pattern::{matches_whole, whole};
pub use read::CaseFileError;
