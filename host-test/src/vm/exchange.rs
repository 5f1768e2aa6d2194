//! How does a message pass the filter, frame by frame?
//!
//! Each side is a queue of events. An event goes to its callback; if the callback continues, it passes; if not, it
//! stays with the filter. Held headers hold back everything behind them, unless the module may stop at the headers
//! alone: then the body's callbacks go on, and the first that continues lets the headers pass as well. A held body does
//! not hold back: the next callback sees old and new together. Measured in Envoy 1.40.
//!
//! Return values: 0 continues; for a body, 3 and everything unknown drops what is there; all else holds. What passed is
//! kept for the outcome and, in a chain, handed to the next filter.

use std::collections::VecDeque;

use crate::abi::header_map::HeaderMap;
use crate::envoy::filter_state::Entries;
use crate::envoy::local_reply::LocalReply;
use crate::stream::{Flow, Side};
use crate::vm::failure::Failure;
use crate::vm::outcome::{Message, Outcome};
use crate::vm::state::{Phase, Record};
use crate::vm::{Vm, count};

/// Something that arrives on one side of a stream.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Headers(HeaderMap, bool),
    Body(Vec<u8>, bool),
    Trailers(HeaderMap),
    /// A connection.
    Connection,
    /// Data of a connection.
    Data(Vec<u8>, bool),
}

/// How one stream stands.
#[derive(Default)]
pub(crate) struct Exchange {
    request: Direction,
    response: Direction,
    reply: Option<LocalReply>,
    /// Whether the reply went past this filter's callbacks, and so past those of the filters before it.
    reply_is_direct: bool,
    is_reset: bool,
    failure: Option<Failure>,
    /// Whether the stream passes the filter by, since its VM has failed and the policy is open.
    passes_by: bool,
    /// Whether another filter takes what passes.
    is_chained: bool,
    /// Whether it is a connection through a network filter.
    is_connection: bool,
}

#[derive(Default)]
struct Direction {
    waiting: VecDeque<Event>,
    held: Option<Phase>,
    /// Whether headers are held that do not hold back the body's callbacks.
    has_stopped_headers: bool,
    is_ending: bool,
    passed: Option<Message>,
    /// What passed and was not taken by the next filter of a chain.
    outbox: VecDeque<Event>,
}

impl Exchange {
    pub(crate) fn flow(&self, side: Side) -> Flow {
        if self.is_reset {
            Flow::Reset
        } else if self.reply.is_some()
            && !(side == Side::Response && self.direction(side).held.is_some())
        {
            // An answer may be held by the filter's own response callbacks.
            Flow::Replied
        } else if self.direction(side).held.is_some() || self.direction(side).has_stopped_headers {
            Flow::Paused
        } else {
            Flow::Continue
        }
    }

    pub(crate) fn passed(&self, side: Side) -> Option<&Message> {
        self.direction(side).passed.as_ref()
    }

    pub(crate) fn passed_mut(&mut self, side: Side) -> Option<&mut Message> {
        self.direction_mut(side).passed.as_mut()
    }

    /// A stream that passes the filter by.
    pub(crate) fn passing_by() -> Self {
        Self {
            passes_by: true,
            ..Self::default()
        }
    }

    /// A connection through a network filter.
    pub(crate) fn of_connection() -> Self {
        Self {
            is_connection: true,
            ..Self::default()
        }
    }

    pub(crate) fn passes_by(&self) -> bool {
        self.passes_by
    }

    pub(crate) fn chain(&mut self) {
        self.is_chained = true;
    }

    /// Takes what passed on `side` for the next filter of a chain.
    pub(crate) fn take_passed(&mut self, side: Side) -> VecDeque<Event> {
        std::mem::take(&mut self.direction_mut(side).outbox)
    }

    /// Whether the filter has answered, and whether past its own callbacks.
    pub(crate) fn has_direct_reply(&self) -> bool {
        self.reply.is_some() && self.reply_is_direct
    }

    pub(crate) fn reply(&self) -> Option<&LocalReply> {
        self.reply.as_ref()
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.is_reset
    }

    pub(crate) fn into_outcome(
        self,
        record: Record,
        filter_state: Entries,
        failure: Option<Failure>,
        waits_for_done: bool,
        memory: usize,
    ) -> Outcome {
        let paused: Vec<Side> = [Side::Request, Side::Response]
            .into_iter()
            .filter(|side| self.flow(*side) == Flow::Paused)
            .collect();
        let is_unseen = |side: &Side| {
            let direction = self.direction(*side);
            direction.held == Some(Phase::Headers) && !direction.waiting.is_empty()
        };
        let unseen = paused.iter().copied().filter(is_unseen).collect();
        Outcome {
            upstream: self.request.passed,
            downstream: self.response.passed,
            local_reply: self.reply,
            failure: self.failure.or(failure),
            is_reset: self.is_reset,
            paused,
            unseen,
            waits_for_done,
            logs: record.logs,
            filter_state,
            calls: record.calls,
            unknown_calls: record.unknown_calls,
            call_outs: record.call_outs,
            trace: record.trace,
            memory,
            fuel: record.fuel,
            abi_fuel: record.abi_fuel,
        }
    }

    fn direction(&self, side: Side) -> &Direction {
        match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        }
    }

    fn direction_mut(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    /// Writes down what passed.
    fn let_pass(&mut self, side: Side, event: Event) {
        let is_chained = self.is_chained;
        let direction = self.direction_mut(side);
        if is_chained {
            direction.outbox.push_back(event.clone());
        }
        direction.passed.get_or_insert_default().take(event);
    }

    /// Whether `side` takes nothing more: an answer ends the request, and a reset ends both.
    fn is_over(&self, side: Side) -> bool {
        self.is_reset || (side == Side::Request && self.reply.is_some())
    }
}

impl Vm {
    /// Takes what arrives on `side` from outside. After an answer or a reset nothing is taken.
    pub(crate) fn feed(&mut self, context: u32, side: Side, event: Event) {
        if let Some(exchange) = self.exchanges.get_mut(&context)
            && exchange.reply.is_none()
            && !exchange.is_reset
        {
            if exchange.passes_by {
                exchange.let_pass(side, event);
                return;
            }
            exchange.direction_mut(side).waiting.push_back(event);
            self.run(context, side);
        }
    }

    /// Lets go what the filter holds on `side`, and what waits behind it. Nothing held: nothing happens.
    pub(crate) fn resume(&mut self, context: u32, side: Side) {
        let Some(exchange) = self
            .exchanges
            .get_mut(&context)
            .filter(|exchange| !exchange.is_over(side))
        else {
            return;
        };
        let direction = exchange.direction_mut(side);
        let has_stopped_headers = direction.has_stopped_headers;
        let held = direction.held.take();
        if let Some(phase) = held.or(has_stopped_headers.then_some(Phase::Headers)) {
            self.pass(context, side, phase);
            self.run(context, side);
        }
    }

    /// Carries out an answer or a close that a callback asked for.
    pub(crate) fn interrupt(&mut self, context: u32) {
        let Some(stream) = self.store.data_mut().streams.get_mut(&context) else {
            return;
        };
        let is_closed = std::mem::take(&mut stream.closed);
        let reply = stream.reply.take();
        // The response's callbacks run on an answer, unless they have seen a response already.
        let is_response_seen = stream.response_headers.is_some();
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        match reply {
            Some(reply) if !is_closed => self.answer(context, reply, !is_response_seen),
            _ => {
                exchange.is_reset = true;
                self.abandon(context);
            }
        }
    }

    fn run(&mut self, context: u32, side: Side) {
        while let Some(exchange) = self.exchanges.get_mut(&context) {
            if exchange.is_over(side) {
                return;
            }
            let direction = exchange.direction_mut(side);
            if matches!(
                direction.held,
                Some(Phase::Headers | Phase::Trailers | Phase::Connection)
            ) {
                return;
            }
            let Some(event) = direction.waiting.pop_front() else {
                return;
            };
            self.deliver(context, side, event);
        }
    }

    fn deliver(&mut self, context: u32, side: Side, event: Event) {
        let Some(stream) = self.store.data_mut().streams.get_mut(&context) else {
            // The VM was loaded anew: the stream belongs to one that is gone.
            return self.fail(context);
        };
        let is_request = side == Side::Request;
        let (phase, callback, arguments) = match event {
            Event::Headers(headers, end_of_stream) => {
                let number = count(headers.len());
                let (map, callback) = if is_request {
                    (&mut stream.request_headers, "proxy_on_request_headers")
                } else {
                    (&mut stream.response_headers, "proxy_on_response_headers")
                };
                *map = Some(headers);
                let arguments = vec![context, number, u32::from(end_of_stream)];
                if end_of_stream && let Some(exchange) = self.exchanges.get_mut(&context) {
                    exchange.direction_mut(side).is_ending = true;
                }
                (Phase::Headers, callback, arguments)
            }
            Event::Body(frame, end_of_stream) => {
                let body = stream.body_mut(side);
                body.extend(frame);
                let size = count(body.len());
                let callback = if is_request {
                    "proxy_on_request_body"
                } else {
                    "proxy_on_response_body"
                };
                let arguments = vec![context, size, u32::from(end_of_stream)];
                (Phase::Body { end_of_stream }, callback, arguments)
            }
            Event::Trailers(trailers) => {
                let number = count(trailers.len());
                let (map, callback) = if is_request {
                    (&mut stream.request_trailers, "proxy_on_request_trailers")
                } else {
                    (&mut stream.response_trailers, "proxy_on_response_trailers")
                };
                *map = Some(trailers);
                (Phase::Trailers, callback, vec![context, number])
            }
            Event::Connection => (Phase::Connection, "proxy_on_new_connection", vec![context]),
            Event::Data(data, end_of_stream) => {
                let body = stream.body_mut(side);
                body.extend(data);
                let size = count(body.len());
                let callback = if is_request {
                    "proxy_on_downstream_data"
                } else {
                    "proxy_on_upstream_data"
                };
                let arguments = vec![context, size, u32::from(end_of_stream)];
                (Phase::Data { end_of_stream }, callback, arguments)
            }
        };
        *stream.phase_mut(side) = Some(phase);
        let action = match self.call(context, callback, &arguments) {
            Ok(action) => action,
            Err(failure) => {
                if let Some(exchange) = self.exchanges.get_mut(&context) {
                    exchange.failure = Some(failure);
                }
                return self.fail(context);
            }
        };
        let stops_at_headers_only = self.stops_at_headers_only();
        let Some(stream) = self.store.data_mut().streams.get_mut(&context) else {
            return;
        };
        if stream.reply.is_some() || stream.closed {
            return self.interrupt(context);
        }
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        let direction = exchange.direction_mut(side);
        match (phase, action.unwrap_or(CONTINUE)) {
            (_, CONTINUE) | (Phase::Headers, CONTINUE_AND_END_STREAM) => {
                direction.held = None;
                self.pass(context, side, phase);
            }
            (Phase::Headers, STOP_ITERATION) if stops_at_headers_only => {
                direction.has_stopped_headers = true;
                *stream.holds_headers_mut(side) = true;
            }
            (_, action) => {
                direction.held = Some(phase);
                if matches!(phase, Phase::Body { .. }) && action >= STOP_WITHOUT_BUFFER {
                    stream.body_mut(side).clear();
                }
            }
        }
    }

    /// Lets the contents of `phase` go on, and closes it to the filter. Headers that were stopped alone go first.
    fn pass(&mut self, context: u32, side: Side, phase: Phase) {
        let (Some(stream), Some(exchange)) = (
            self.store.data_mut().streams.get_mut(&context),
            self.exchanges.get_mut(&context),
        ) else {
            return;
        };
        *stream.phase_mut(side) = None;
        *stream.holds_headers_mut(side) = false;
        let direction = exchange.direction_mut(side);
        let is_behind_headers = !matches!(phase, Phase::Headers);
        if std::mem::take(&mut direction.has_stopped_headers) && is_behind_headers {
            let headers = stream.headers(side).cloned().unwrap_or_default();
            exchange.let_pass(side, Event::Headers(headers, false));
        }
        let direction = exchange.direction_mut(side);
        match phase {
            Phase::Headers => {
                let headers = stream.headers(side).cloned().unwrap_or_default();
                let is_ending = direction.is_ending;
                exchange.let_pass(side, Event::Headers(headers, is_ending));
            }
            Phase::Body { end_of_stream } => {
                let body = std::mem::take(stream.body_mut(side));
                let trailers = end_of_stream
                    .then(|| stream.trailers(side).cloned())
                    .flatten();
                exchange.let_pass(side, Event::Body(body, end_of_stream && trailers.is_none()));
                if let Some(trailers) = trailers {
                    exchange.let_pass(side, Event::Trailers(trailers));
                }
            }
            Phase::Trailers => {
                let body = std::mem::take(stream.body_mut(side));
                let trailers = stream.trailers(side).cloned().unwrap_or_default();
                if !body.is_empty() {
                    exchange.let_pass(side, Event::Body(body, false));
                }
                exchange.let_pass(side, Event::Trailers(trailers));
            }
            Phase::Connection => exchange.let_pass(side, Event::Connection),
            Phase::Data { end_of_stream } => {
                let data = std::mem::take(stream.body_mut(side));
                exchange.let_pass(side, Event::Data(data, end_of_stream));
            }
        }
    }

    /// Answers in place of the upstream. Once response headers have passed it is too late, and the stream is reset.
    fn answer(&mut self, context: u32, reply: LocalReply, runs_callbacks: bool) {
        let stream = self.store.data().streams.get(&context);
        let request = stream.and_then(|stream| stream.request_headers.as_ref());
        let (headers, body) = reply.to_response(request);
        self.abandon(context);
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        if exchange.response.passed.is_some() {
            exchange.is_reset = true;
            return;
        }
        let details = reply.details.clone();
        exchange.reply = Some(reply);
        if let Some(stream) = self.store.data_mut().streams.get_mut(&context) {
            stream.code_details = Some(details);
        }
        if runs_callbacks {
            let has_body = !body.is_empty();
            let waiting = &mut exchange.response.waiting;
            waiting.push_back(Event::Headers(headers, !has_body));
            if has_body {
                waiting.push_back(Event::Body(body, true));
            }
            self.run(context, Side::Response);
        } else {
            exchange.reply_is_direct = true;
            exchange.response.outbox.clear();
            let has_body = !body.is_empty();
            exchange.let_pass(Side::Response, Event::Headers(headers.clone(), !has_body));
            if has_body {
                exchange.let_pass(Side::Response, Event::Body(body, true));
            }
            // What is logged is what was answered.
            if let Some(stream) = self.host().streams.get_mut(&context) {
                stream.response_headers = Some(headers);
            }
        }
    }

    /// What Envoy does with a stream whose filter failed: 503, which no callback sees; a connection is closed.
    fn fail(&mut self, context: u32) {
        if let Some(exchange) = self.exchanges.get_mut(&context)
            && exchange.is_connection
        {
            exchange.is_reset = true;
            return self.abandon(context);
        }
        self.answer(context, LocalReply::of_failed_filter(), false);
    }

    /// Answers for the streams that wait for a filter that has failed: nothing will let them go.
    pub(crate) fn fail_held(&mut self) {
        let is_held = |exchange: &Exchange| {
            let sides = [Side::Request, Side::Response];
            sides
                .into_iter()
                .any(|side| exchange.flow(side) == Flow::Paused)
        };
        let exchanges = self.exchanges.iter();
        let held: Vec<u32> = exchanges
            .filter(|(_, exchange)| is_held(exchange))
            .map(|(context, _)| *context)
            .collect();
        for context in held {
            self.fail(context);
        }
    }

    /// Forgets what was held and waiting on both sides.
    fn abandon(&mut self, context: u32) {
        if let Some(exchange) = self.exchanges.get_mut(&context) {
            for direction in [&mut exchange.request, &mut exchange.response] {
                direction.waiting.clear();
                direction.held = None;
                direction.has_stopped_headers = false;
            }
        }
        if let Some(stream) = self.host().streams.get_mut(&context) {
            stream.request_phase = None;
            stream.response_phase = None;
            stream.holds_request_headers = false;
            stream.holds_response_headers = false;
            stream.request_body.clear();
            stream.response_body.clear();
        }
    }
}

/// `Continue` of every callback.
const CONTINUE: u32 = 0;

/// `ContinueAndEndStream` of the headers' callbacks, which Envoy 1.40 takes for `Continue`.
const CONTINUE_AND_END_STREAM: u32 = 2;

/// `StopIteration` of the headers' callbacks.
const STOP_ITERATION: u32 = 1;

/// `StopIterationNoBuffer` of the body callbacks, for which Envoy takes every larger number, too.
const STOP_WITHOUT_BUFFER: u32 = 3;
