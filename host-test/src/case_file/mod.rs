//! What comes of a case file under this host?
//!
//! The format is that of [`fluxlit_cases`], where every key is described, and in `host-test/cases.schema.json`. Here a
//! case is run, compared with what it expects, and written anew from what came of it.

mod bench;
mod connections;
mod convert;
mod mismatches;
mod record;
mod run;
mod schedule;
mod start;

pub use bench::{Bench, BenchError};
pub use convert::{envoy_peer, received, reply};
pub use fluxlit_cases::{
    Answer, CallAnswer, CallExpectation, Case, CaseFile, CaseFileError, Chained, Close, Config,
    Connection, ConnectionEvent, Downstream, Exchange, Failing, Finally, ForeignAnswer, Headers,
    Level, LogExpectation, Matches, MetricExpectation, Peer, Plugin, Policy, Property, Queue,
    ReplyExpectation, Request, Status, Typed, Upstream, Version,
};
pub(crate) use fluxlit_cases::{matches_whole, whole};
pub use mismatches::log_misses;
pub use run::{Ending, Ran, Runner};
pub use schedule::Schedule;
