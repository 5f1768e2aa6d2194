//! Sends a request and its response through a plugin.
//!
//! A test feeds the stream in the order of a proxy: headers, body frames and trailers of the request, then those of the
//! response. The forwarded data can be read at any time; [`Stream::finish`] ends the stream in Envoy's order, `on_log`,
//! `on_done`, `on_delete`, or in that of the specification.

use std::collections::VecDeque;

use crate::abi::{HeaderMap, Properties};
use crate::envoy::filter_state::{Entries, FilterState};
use crate::envoy::local_reply::LocalReply;
use crate::event::{Event, Flow, LogLine, Side};
use crate::plugin::Plugin;
use crate::vm::Vm;
use crate::vm::exchange::Exchange;
use crate::vm::failure::FailurePolicy;
use crate::vm::outcome::Outcome;
use crate::vm::state::StreamState;

/// An open stream. If it is dropped, it ends as by [`Stream::finish`], and its outcome is lost.
pub struct Stream {
    plugin: Plugin,
    context: u32,
    has_ended: bool,
}

impl Plugin {
    /// Opens a stream: `on_context_create`. Streams of one plugin may overlap.
    pub fn stream(&self, properties: Properties) -> Stream {
        Stream::open(
            self.clone(),
            properties,
            FilterState::default(),
            Exchange::default(),
        )
    }
}

impl Stream {
    /// Opens a stream, or a connection through a network filter.
    pub(crate) fn open(
        plugin: Plugin,
        properties: Properties,
        filter_state: FilterState,
        exchange: Exchange,
    ) -> Self {
        let is_connection = exchange.is_connection();
        let mut vm = plugin.vm();
        vm.reload();
        let context = vm.new_context();
        let is_open = vm.host().options.failure_policy == FailurePolicy::Open;
        if is_open && vm.failure.is_some() {
            vm.exchanges.insert(context, exchange.bypassing());
            drop(vm);
            return Self::of_context(plugin, context);
        }
        let root = vm.plugin_context(plugin.index());
        vm.exchanges.insert(context, exchange);
        let opened_at = vm.host().now();
        let connection_id = vm.next_connection();
        vm.host().streams.insert(
            context,
            StreamState {
                connection_id,
                plugin: root,
                opened_at,
                is_connection,
                properties,
                filter_state,
                ..StreamState::default()
            },
        );
        vm.create_context(context, root);
        drop(vm);
        plugin.process().deliver();
        Self::of_context(plugin, context)
    }

    fn of_context(plugin: Plugin, context: u32) -> Self {
        Self {
            plugin,
            context,
            has_ended: false,
        }
    }

    /// Opens a stream whose forwarded events the next filter of a chain takes.
    pub(crate) fn open_in_chain(
        plugin: Plugin,
        properties: Properties,
        filter_state: FilterState,
    ) -> Self {
        let mut exchange = Exchange::default();
        exchange.chain();
        Self::open(plugin, properties, filter_state, exchange)
    }

    /// Takes the events forwarded on `side`, for the next filter of a chain.
    pub(crate) fn take_forwarded(&self, side: Side) -> VecDeque<Event> {
        let mut vm = self.plugin.vm();
        let exchange = vm.exchanges.get_mut(&self.context);
        exchange.map_or_else(VecDeque::new, |exchange| exchange.take_forwarded(side))
    }

    /// Returns true if the filter's local reply bypassed its own response callbacks.
    pub(crate) fn has_direct_reply(&self) -> bool {
        let vm = self.plugin.vm();
        vm.exchanges
            .get(&self.context)
            .is_some_and(Exchange::has_direct_reply)
    }

    pub(crate) fn is_reset(&self) -> bool {
        let vm = self.plugin.vm();
        vm.exchanges
            .get(&self.context)
            .is_some_and(Exchange::is_reset)
    }

    /// Feeds the request's headers, pseudo-headers first.
    pub fn request_headers(&mut self, headers: HeaderMap, end_of_stream: bool) -> Flow {
        self.feed(Side::Request, Event::Headers(headers, end_of_stream))
    }

    /// Feeds a frame of the request's body. In HTTP/1 the last frame is empty.
    pub fn request_body(&mut self, frame: Vec<u8>, end_of_stream: bool) -> Flow {
        self.feed(Side::Request, Event::Body(frame, end_of_stream))
    }

    /// Feeds the request's trailers.
    pub fn request_trailers(&mut self, trailers: HeaderMap) -> Flow {
        self.feed(Side::Request, Event::Trailers(trailers))
    }

    /// Feeds the response's headers, `:status` first.
    pub fn response_headers(&mut self, headers: HeaderMap, end_of_stream: bool) -> Flow {
        self.feed(Side::Response, Event::Headers(headers, end_of_stream))
    }

    /// Feeds a frame of the response's body.
    pub fn response_body(&mut self, frame: Vec<u8>, end_of_stream: bool) -> Flow {
        self.feed(Side::Response, Event::Body(frame, end_of_stream))
    }

    /// Feeds the response's trailers.
    pub fn response_trailers(&mut self, trailers: HeaderMap) -> Flow {
        self.feed(Side::Response, Event::Trailers(trailers))
    }

    /// Feeds an HTTP/2 METADATA frame with this number of entries: `proxy_on_request_metadata` or
    /// `proxy_on_response_metadata`. As in Envoy, the filter can neither read the entries, for which the ABI has no map, nor
    /// hold the frame.
    pub fn metadata(&mut self, side: Side, entries: u32) -> Flow {
        let mut vm = self.plugin.vm();
        vm.feed_metadata(self.context, side, entries);
        drop(vm);
        self.plugin.process().deliver();
        self.flow(side)
    }

    /// Returns the state of `side`, which a tick or another stream may have changed.
    pub fn flow(&self, side: Side) -> Flow {
        let vm = self.plugin.vm();
        vm.exchanges
            .get(&self.context)
            .map_or(Flow::Reset, |exchange| exchange.flow(side))
    }

    /// Returns the headers forwarded on `side`; `None` if none were.
    pub fn headers(&self, side: Side) -> Option<HeaderMap> {
        let vm = self.plugin.vm();
        let forwarded = vm.exchanges.get(&self.context)?.forwarded(side)?;
        Some(forwarded.headers.clone())
    }

    /// Takes the body bytes forwarded on `side` since the last call. They are not part of the [`Outcome`].
    pub fn take_body(&mut self, side: Side) -> Vec<u8> {
        let mut vm = self.plugin.vm();
        let exchange = vm.exchanges.get_mut(&self.context);
        exchange
            .and_then(|exchange| exchange.forwarded_mut(side))
            .map_or_else(Vec::new, |message| std::mem::take(&mut message.body))
    }

    /// Returns the headers on `side` as the filter sees them now, forwarded or held; empty if none have arrived.
    pub fn current_headers(&self, side: Side) -> HeaderMap {
        let mut vm = self.plugin.vm();
        let stream = vm.host().streams.get(&self.context);
        stream
            .and_then(|stream| stream.headers(side))
            .cloned()
            .unwrap_or_default()
    }

    /// Returns the body bytes that the filter holds on `side`.
    pub fn held_body(&self, side: Side) -> Vec<u8> {
        let mut vm = self.plugin.vm();
        let stream = vm.host().streams.get_mut(&self.context);
        stream.map_or_else(Vec::new, |stream| stream.body_mut(side).clone())
    }

    /// Returns the lines logged so far by callbacks of this stream.
    pub fn logs(&self) -> Vec<LogLine> {
        let mut vm = self.plugin.vm();
        let record = vm.host().records.get(&self.context);
        record.map_or_else(Vec::new, |record| record.logs.clone())
    }

    /// Returns the filter's local reply, if it sent one.
    pub fn local_reply(&self) -> Option<LocalReply> {
        let vm = self.plugin.vm();
        vm.exchanges.get(&self.context)?.reply().cloned()
    }

    /// Returns the trailers forwarded on `side`; empty if none were.
    pub fn trailers(&self, side: Side) -> HeaderMap {
        let vm = self.plugin.vm();
        let exchange = vm.exchanges.get(&self.context);
        exchange
            .and_then(|exchange| exchange.forwarded(side))
            .map_or_else(HeaderMap::default, |message| message.trailers.clone())
    }

    /// Ends the stream and returns its outcome.
    pub fn finish(mut self) -> Outcome {
        self.end()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Ends the stream as [`Self::finish`] does.
    pub(crate) fn end(&mut self) -> Outcome {
        self.has_ended = true;
        let context = self.context;
        let mut vm = self.plugin.vm();
        let logs_first = vm.host().logs_before_done(context);
        let stream = vm.host().streams.get(&context);
        let filter_state = stream.map(|stream| stream.filter_state.clone());
        if vm.host().has_context(context) {
            // None of these calls is made once the VM has failed; the outcome has the failure.
            if logs_first {
                log(&mut vm, context);
            }
            let done = vm.call(context, "proxy_on_done", &[context]);
            if !logs_first {
                log(&mut vm, context);
            }
            match done {
                Ok(Some(0)) => vm.host().waiting_for_done.push(context),
                Ok(_) => vm.delete(context),
                Err(_) => {}
            }
        }
        let exchange = vm.exchanges.remove(&context).unwrap_or_default();
        vm.settle();
        let waits_for_done = vm.host().waiting_for_done.contains(&context);
        if let Some(stream) = vm.host().streams.get_mut(&context) {
            stream.is_finished = true;
        }
        if !waits_for_done {
            vm.host().streams.remove(&context);
        }
        let record = vm.host().records.remove(&context).unwrap_or_default();
        let memory = vm.memory();
        let failure = vm.failure.clone().filter(|_| !exchange.is_bypassing());
        let filter_state = filter_state.map_or_else(Entries::new, |state| state.entries().clone());
        let outcome = exchange.into_outcome(record, filter_state, failure, waits_for_done, memory);
        drop(vm);
        self.plugin.process().deliver();
        outcome
    }

    /// Calls an export that returns nothing. The call is not made once the VM has failed; the outcome has the failure.
    pub(crate) fn notify(&mut self, callback: &'static str, argument: u32) {
        let mut vm = self.plugin.vm();
        if vm.host().has_context(self.context) {
            let _ = vm.call(self.context, callback, &[self.context, argument]);
            vm.settle();
        }
        drop(vm);
        self.plugin.process().deliver();
    }

    pub(crate) fn feed(&mut self, side: Side, event: Event) -> Flow {
        let mut vm = self.plugin.vm();
        vm.feed(self.context, side, event);
        vm.settle();
        drop(vm);
        self.plugin.process().deliver();
        self.flow(side)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A test that fails needs no further callbacks, and a panic in them would hide its own.
        if !self.has_ended && !std::thread::panicking() {
            self.end();
        }
    }
}

fn log(vm: &mut Vm, context: u32) {
    if let Some(stream) = vm.host().streams.get_mut(&context) {
        stream.is_logging = true;
    }
    // The call is not made once the VM has failed; the outcome has the failure.
    let _ = vm.call(context, "proxy_on_log", &[context]);
    if let Some(stream) = vm.host().streams.get_mut(&context) {
        stream.is_logging = false;
    }
}
