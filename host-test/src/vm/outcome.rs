//! What came of a stream?
//!
//! Effects, not the order of calls: whoever asserts on an outcome may change how the filter gets there.

use std::collections::BTreeMap;

use crate::abi::header_map::HeaderMap;
use crate::envoy::local_reply::LocalReply;
use crate::stream::Side;
use crate::vm::call_out::CallOut;
use crate::vm::exchange::Event;
use crate::vm::failure::Failure;
use crate::vm::state::LogLine;
use crate::vm::trace::HostCall;

/// Everything one stream left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What went to the upstream; `None` if it was not asked.
    pub upstream: Option<Message>,
    /// What went to the client; `None` if nothing did.
    pub downstream: Option<Message>,
    /// The filter's own answer, or the 503 in place of a filter that failed.
    pub local_reply: Option<LocalReply>,
    /// How the filter failed, in this stream or before it.
    pub failure: Option<Failure>,
    /// Whether the filter closed the stream, or failed or answered when the response was on its way.
    pub is_reset: bool,
    /// The sides that were left paused: in Envoy they would wait until a time-out.
    pub paused: Vec<Side>,
    /// Those among them whose headers hold back a body that the filter never saw.
    pub unseen: Vec<Side>,
    /// Whether the filter still holds the context: `on_done` returned false, and `proxy_done` has not come.
    pub waits_for_done: bool,
    /// What was logged by callbacks of this stream, in order.
    pub logs: Vec<LogLine>,
    /// The stream's filter state at its end, by key, as all its filters left it: a property that was set is under `wasm.`
    /// and its path.
    pub filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// How often each host function was called by callbacks of this stream.
    pub calls: BTreeMap<&'static str, u64>,
    /// How often each import was called that this host does not know, see [`crate::Unknown`].
    pub unknown_calls: BTreeMap<String, u64>,
    /// The call-outs that callbacks of this stream made, in order.
    pub call_outs: Vec<CallOut>,
    /// Every host call of this stream's callbacks in order, if [`crate::StartOptions::trace`] asks for it.
    pub trace: Vec<HostCall>,
    /// How many bytes of memory the module had in the end.
    pub memory: usize,
    /// Fuel used by callbacks of this stream: about one for each instruction, 50 for each host call and one for each
    /// byte that it copies.
    pub fuel: u64,
    /// The part of it that host calls and their copies took.
    pub abi_fuel: u64,
}

/// A request or response as the filter let it pass, or all data that passed on one side of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Pseudo-headers and fields.
    pub headers: HeaderMap,
    /// The body so far.
    pub body: Vec<u8>,
    /// The trailers, if there are any.
    pub trailers: HeaderMap,
    /// Whether the end has passed.
    pub is_complete: bool,
}

impl Message {
    /// Adds what passed.
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::Headers(headers, is_complete) => {
                self.headers = headers;
                self.is_complete = is_complete;
            }
            Event::Body(bytes, is_complete) | Event::Data(bytes, is_complete) => {
                self.body.extend(bytes);
                self.is_complete = is_complete;
            }
            Event::Trailers(trailers) => {
                self.trailers = trailers;
                self.is_complete = true;
            }
            // It carries nothing yet.
            Event::Connection => {}
        }
    }
}
