//! What does a case say, and does an outcome meet it?
//!
//! A case file (`cases/*.json`) is a table a person can read: a configuration, a request as it arrives, what the
//! upstream must receive, what the upstream answers, and what the client must get. `cases/README.md` describes every
//! field. The same file is run by the policy itself, by the filter under wasmtime and by the filter in real Envoy;
//! each of the three turns a [`Case`] into an [`Outcome`], and this crate compares them.
//!
//! Deliberately not here: how a host runs a case. This crate knows no policy, no wasm and no Envoy, so that it can
//! judge all three.

mod case;
mod outcome;

pub use case::{
    Answer, Case, CaseError, CaseFile, Downstream, Exchange, Expect, Headers, Host, HttpVersion,
    Lines, Peer, Request, Upstream,
};
pub use outcome::{Outcome, Received, Reply, Served};
