//! Describes the outcome of a stream.
//!
//! An outcome lists effects, not calls, so a test that asserts on it survives a change in how the filter achieves them.

use std::collections::BTreeMap;

use super::call_out::CallOut;
use super::failure::Failure;
use super::trace::HostCall;
use crate::envoy::local_reply::LocalReply;
use crate::event::{LogLine, Message, Side};

/// The outcome of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The request as it was forwarded to the upstream; `None` if it was not.
    pub upstream: Option<Message>,
    /// The response as it was forwarded to the client; `None` if it was not.
    pub downstream: Option<Message>,
    /// The local reply: the filter's own, the 503 for a filter that failed, or that for a body beyond the buffer limit.
    pub local_reply: Option<LocalReply>,
    /// The failure of the filter, in this stream or before it.
    pub failure: Option<Failure>,
    /// True if the filter closed the stream, or if it failed or sent a local reply after the response headers had been
    /// forwarded.
    pub is_reset: bool,
    /// The sides that were left paused. In Envoy they would wait until a timeout.
    pub paused: Vec<Side>,
    /// The paused sides whose headers block a body that the filter has not seen.
    pub blocked_bodies: Vec<Side>,
    /// True if the context still exists: `on_done` returned false and `proxy_done` was not called.
    pub waits_for_done: bool,
    /// The lines that were logged while this stream was effective, in order: by its own callbacks, and by those of call-outs,
    /// ticks and queues that made it effective.
    pub logs: Vec<LogLine>,
    /// The stream's filter state at its end, by key, with the entries of all its filters. A property that a filter set has
    /// the key `wasm.` followed by its path.
    pub filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The number of calls of each host function while this stream was effective.
    pub calls: BTreeMap<&'static str, u64>,
    /// The number of calls of each import that this host does not know, see [`super::UnknownImports`].
    pub unknown_calls: BTreeMap<String, u64>,
    /// The call-outs that were made while this stream was effective, in order.
    pub call_outs: Vec<CallOut>,
    /// Every host call while this stream was effective, in order, if [`crate::StartOptions::trace`] is set.
    pub trace: Vec<HostCall>,
    /// The size of the module's memory at the end, in bytes.
    pub memory: usize,
    /// Fuel used while this stream was effective: about one unit for each instruction, 50 for each host call and one for each
    /// byte that it copies.
    pub fuel: u64,
    /// The part of `fuel` that host calls and their copies used.
    pub abi_fuel: u64,
}
