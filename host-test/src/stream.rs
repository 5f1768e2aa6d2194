//! How is a request sent through the filter?
//!
//! A stream is fed what the proxy would feed it, in order: request headers, body frames, trailers, then the response's.
//! What came out can be taken at any time; [`Stream::finish`] ends it in Envoy's order, `on_log`, `on_done`,
//! `on_delete`, or in that of the specification.

use std::collections::VecDeque;

use crate::abi::header_map::HeaderMap;
use crate::abi::property::Properties;
use crate::envoy::filter_state::{Entries, FilterState};
use crate::envoy::local_reply::LocalReply;
use crate::plugin::Plugin;
use crate::vm::Vm;
use crate::vm::exchange::{Event, Exchange};
use crate::vm::failure::FailurePolicy;
use crate::vm::outcome::Outcome;
use crate::vm::state::{LogLine, StreamState};

/// One side of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From the client to the upstream.
    Request,
    /// From the upstream, or from the filter itself, to the client.
    Response,
}

/// How a side goes on after what was fed; the further down, the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// It went on.
    Continue,
    /// The filter holds it back until it continues it; what is fed meanwhile waits as well.
    Paused,
    /// The filter has answered, or failed and was answered for, see [`Outcome::local_reply`].
    Replied,
    /// The filter has closed the stream, or failed when the response was on its way.
    Reset,
}

/// One open stream.
pub struct Stream {
    plugin: Plugin,
    context: u32,
}

impl Stream {
    pub(crate) fn open(plugin: Plugin, properties: Properties) -> Self {
        Self::open_as(plugin, properties, FilterState::default(), false)
    }

    /// Opens a connection through a network filter.
    pub(crate) fn open_connection(plugin: Plugin, properties: Properties) -> Self {
        Self::open_as(plugin, properties, FilterState::default(), true)
    }

    fn open_as(
        plugin: Plugin,
        properties: Properties,
        filter_state: FilterState,
        is_connection: bool,
    ) -> Self {
        let mut vm = plugin.vm();
        vm.load_anew();
        let context = vm.new_context();
        let is_open = vm.host().options.failure_policy == FailurePolicy::Open;
        if is_open && vm.failure.is_some() {
            vm.exchanges.insert(context, Exchange::passing_by());
            drop(vm);
            return Self { plugin, context };
        }
        let root = vm.plugin_context(plugin.place());
        let exchange = if is_connection {
            Exchange::of_connection()
        } else {
            Exchange::default()
        };
        vm.exchanges.insert(context, exchange);
        let opened_at = vm.host().now();
        vm.host().streams.insert(
            context,
            StreamState {
                plugin: root,
                opened_at,
                is_connection,
                properties,
                filter_state,
                ..StreamState::default()
            },
        );
        // A failure is kept in the VM; the first event finds it there.
        let _ = vm.call(context, "proxy_on_context_create", &[context, root]);
        vm.settle();
        drop(vm);
        plugin.process().deliver();
        Self { plugin, context }
    }

    /// Opens a stream whose passed events another filter takes.
    pub(crate) fn open_in_chain(
        plugin: Plugin,
        properties: Properties,
        filter_state: FilterState,
    ) -> Self {
        let stream = Self::open_as(plugin, properties, filter_state, false);
        if let Some(exchange) = stream.plugin.vm().exchanges.get_mut(&stream.context) {
            exchange.chain();
        }
        stream
    }

    /// Takes what passed on `side` for the next filter of a chain.
    pub(crate) fn take_passed(&self, side: Side) -> VecDeque<Event> {
        let mut vm = self.plugin.vm();
        let exchange = vm.exchanges.get_mut(&self.context);
        exchange.map_or_else(VecDeque::new, |exchange| exchange.take_passed(side))
    }

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

    /// Feeds a frame of the request's body. In HTTP/1 the last one is empty.
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

    /// Shows the filter a METADATA frame of HTTP/2 with this many entries: `proxy_on_request_metadata` or
    /// `proxy_on_response_metadata`. As in Envoy, the filter can neither read the entries, which no map of the ABI holds, nor
    /// hold the frame back.
    pub fn metadata(&mut self, side: Side, entries: u32) -> Flow {
        let mut vm = self.plugin.vm();
        vm.show_metadata(self.context, side, entries);
        drop(vm);
        self.plugin.process().deliver();
        self.flow(side)
    }

    /// How `side` stands now; a tick or another stream may have moved it.
    pub fn flow(&self, side: Side) -> Flow {
        let vm = self.plugin.vm();
        vm.exchanges
            .get(&self.context)
            .map_or(Flow::Reset, |exchange| exchange.flow(side))
    }

    /// The headers that have passed on `side`; `None` as long as none have.
    pub fn headers(&self, side: Side) -> Option<HeaderMap> {
        let vm = self.plugin.vm();
        let passed = vm.exchanges.get(&self.context)?.passed(side)?;
        Some(passed.headers.clone())
    }

    /// Takes the body bytes that have passed on `side` since the last time. [`Outcome`] no longer has them.
    pub fn take_body(&mut self, side: Side) -> Vec<u8> {
        let mut vm = self.plugin.vm();
        let exchange = vm.exchanges.get_mut(&self.context);
        exchange
            .and_then(|exchange| exchange.passed_mut(side))
            .map_or_else(Vec::new, |passed| std::mem::take(&mut passed.body))
    }

    /// The headers on `side` as the filter has them now, passed or held; empty if none have arrived.
    pub fn current_headers(&self, side: Side) -> HeaderMap {
        let mut vm = self.plugin.vm();
        let stream = vm.host().streams.get(&self.context);
        stream
            .and_then(|stream| stream.headers(side))
            .cloned()
            .unwrap_or_default()
    }

    /// The body bytes on `side` that the filter holds back.
    pub fn held_body(&self, side: Side) -> Vec<u8> {
        let mut vm = self.plugin.vm();
        let stream = vm.host().streams.get_mut(&self.context);
        stream.map_or_else(Vec::new, |stream| stream.body_mut(side).clone())
    }

    /// What was logged so far by callbacks of this stream.
    pub fn logs(&self) -> Vec<LogLine> {
        let mut vm = self.plugin.vm();
        let record = vm.host().records.get(&self.context);
        record.map_or_else(Vec::new, |record| record.logs.clone())
    }

    /// The filter's own answer, if it has answered.
    pub fn local_reply(&self) -> Option<LocalReply> {
        let vm = self.plugin.vm();
        vm.exchanges.get(&self.context)?.reply().cloned()
    }

    /// The trailers that have passed on `side`; empty if none have.
    pub fn trailers(&self, side: Side) -> HeaderMap {
        let vm = self.plugin.vm();
        let exchange = vm.exchanges.get(&self.context);
        exchange
            .and_then(|exchange| exchange.passed(side))
            .map_or_else(HeaderMap::default, |passed| passed.trailers.clone())
    }

    /// Ends the stream and says what came of it.
    pub fn finish(self) -> Outcome {
        let context = self.context;
        let mut vm = self.plugin.vm();
        let logs_first = vm.host().logs_before_done(context);
        let stream = vm.host().streams.get(&context);
        let filter_state = stream.map(|stream| stream.filter_state.clone());
        if vm.host().has_context(context) {
            // Once the VM has failed, none of these calls happens; the failure is in the outcome.
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
        if !waits_for_done {
            vm.host().streams.remove(&context);
        }
        let record = vm.host().records.remove(&context).unwrap_or_default();
        let memory = vm.memory();
        let failure = vm.failure.clone().filter(|_| !exchange.passes_by());
        let filter_state = filter_state.map_or_else(Entries::new, |state| state.entries().clone());
        let outcome = exchange.into_outcome(record, filter_state, failure, waits_for_done, memory);
        drop(vm);
        self.plugin.process().deliver();
        outcome
    }

    /// Calls an export that returns nothing. Once the VM has failed, the call does not happen; the failure is in the
    /// outcome.
    pub(crate) fn tell(&mut self, callback: &'static str, argument: u32) {
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

fn log(vm: &mut Vm, context: u32) {
    if let Some(stream) = vm.host().streams.get_mut(&context) {
        stream.logging = true;
    }
    // Once the VM has failed, the call does not happen; the failure is in the outcome.
    let _ = vm.call(context, "proxy_on_log", &[context]);
    if let Some(stream) = vm.host().streams.get_mut(&context) {
        stream.logging = false;
    }
}
