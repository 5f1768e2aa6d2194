//! Runs case files: starts a case, compares it with what it expects, or records it as its new expectation.
//!
//! The format is that of [`fluxlit_cases`], where every key is described, and of `host-test/cases.schema.json`. May use the
//! API (`chain`, `connection`, `stream`, `plugin`, `process`) and everything below it.

mod bench;
mod connections;
mod convert;
mod mismatches;
mod record;
mod result;
mod run;
mod schedule;
mod start;

pub use bench::{Bench, BenchError};
pub use convert::{envoy_peer, received, reply};
pub use fluxlit_cases::{
    Answer, CallAnswer, CallExpectation, CallFailure, Case, CaseFile, CaseFileError, ChainedPlugin,
    Close, Config, Connection, ConnectionEvent, DownstreamExpectation, Exchange, FailurePolicy,
    Finally, ForeignAnswer, Headers, InjectedFault, Level, LogExpectation, Matches,
    MetricExpectation, Peer, PluginSetup, Property, Queue, ReplyExpectation, Request, Status,
    TypedValue, UpstreamExpectation, Version,
};
pub use mismatches::log_mismatches;
pub use record::{recorded_end, recorded_live};
pub use result::{CaseResult, Ending};
pub use run::Runner;
pub use schedule::Schedule;
