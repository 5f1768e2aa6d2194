//! Passes events to the filter's callbacks and forwards those that the filter does not hold.
//!
//! Each side is a queue of events. If a callback continues, its event is forwarded; if not, the filter holds it. Held
//! headers block everything after them, unless the module may stop at the headers alone: then body callbacks still run, and
//! the first one that continues also forwards the headers. A held body does not block: the next callback sees old and new
//! bytes together. Measured in Envoy 1.40.
//!
//! Frames that wait for held headers reach the body callback as one. If they are followed by trailers, Envoy delivers both while
//! it continues the headers, and starts each part at this filter. A body that the filter holds in that moment is delivered to it
//! once more when its trailers callback continues. Envoy has marked the filter's message as ended by then, and drops the body.
//!
//! What a callback requested is carried out before its result takes effect, as in Envoy, so a callback that continues its own
//! side and then holds it does hold it. Some requests return OK but crash Envoy or corrupt its messages: with them the filter
//! fails, see `vm::forbidden`.
//!
//! Results of callbacks: 0 continues; for a body, 3 and unknown results discard the buffered bytes; all others hold. Held bytes
//! are limited. With result 1 of a body callback, or 3 of a headers callback, more than the limit is an error: the client gets
//! a 413 or 500, or a reset if response headers were forwarded. The frame that exceeds the limit reaches the callback only in a
//! request, and has no effect. With result 2 of a body callback, nothing more is read until the side continues.
//! Forwarded events are kept for the outcome and, in a chain, passed to the next filter.

use super::Vm;
use super::exchange::{Buffering, Direction, Exchange};
use super::state::Phase;
use crate::abi::{Version, length_u32};
use crate::envoy::local_reply::LocalReply;
use crate::event::{Event, Flow, Side};

impl Vm {
    /// Creates the context of a stream. In Envoy this happens when the request's headers have arrived.
    pub(crate) fn create_context(&mut self, context: u32, plugin: u32) {
        let is_connection = self
            .exchanges
            .get(&context)
            .is_some_and(Exchange::is_connection);
        self.set_running(context, (!is_connection).then_some(Phase::Headers));
        // The VM keeps the failure; the first event reports it.
        let _ = self.call(context, "proxy_on_context_create", &[context, plugin]);
        self.carry_out_all();
        self.set_running(context, None);
        self.settle();
    }

    fn set_running(&mut self, context: u32, phase: Option<Phase>) {
        if let Some(exchange) = self.exchanges.get_mut(&context) {
            exchange.request.running = phase;
        }
    }

    /// Accepts an event from outside on `side`. It is ignored after a local reply or a reset.
    pub(crate) fn feed(&mut self, context: u32, side: Side, event: Event) {
        if let Some(exchange) = self.exchanges.get_mut(&context)
            && exchange.reply.is_none()
            && !exchange.is_reset
        {
            if exchange.is_bypassing() {
                exchange.forward(side, event);
                return;
            }
            exchange.has_whole_request |= side == Side::Request && event.ends_message();
            exchange.direction_mut(side).add_waiting(event);
            self.run(context, side);
        }
    }

    /// Forwards the event that the filter holds on `side`, then runs those that wait. Does nothing if nothing is held.
    pub(crate) fn resume(&mut self, context: u32, side: Side, callback: &'static str) {
        if let Some(forbidden) = self.forbids_continue(context, side) {
            return self.fail_forbidden(context, callback, &forbidden);
        }
        let Some(exchange) = self
            .exchanges
            .get_mut(&context)
            .filter(|exchange| !exchange.is_over(side) && !exchange.is_ended)
        else {
            return;
        };
        let direction = exchange.direction_mut(side);
        let has_stopped_headers = direction.has_stopped_headers;
        let paused = direction.paused.take();
        direction.buffering = None;
        if let Some(running) = direction.running {
            direction.continued_by = Some(callback);
            // The running callback's part of the message belongs to what is held.
            if paused.is_some() || matches!(running, Phase::Headers | Phase::Trailers) {
                self.forward(context, side, running);
            }
            return;
        }
        if let Some(phase) = paused.or(has_stopped_headers.then_some(Phase::Headers)) {
            self.forward(context, side, phase);
            self.set_resuming_headers(context, side, paused == Some(Phase::Headers));
            self.run(context, side);
            self.set_resuming_headers(context, side, false);
        }
    }

    fn set_resuming_headers(&mut self, context: u32, side: Side, is_resuming: bool) {
        if let Some(exchange) = self.exchanges.get_mut(&context) {
            exchange.direction_mut(side).is_resuming_headers = is_resuming;
        }
    }

    /// Carries out a close that a callback requested.
    pub(super) fn close(&mut self, context: u32, callback: &'static str) {
        if let Some(forbidden) = self.forbids_close(context) {
            return self.fail_forbidden(context, callback, &forbidden);
        }
        let has_response = self.has_response(context);
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        exchange.is_reset = true;
        // While Envoy reads the request, it ends the stream later.
        let is_reading = exchange.request.running.is_some() && !exchange.has_whole_request;
        exchange.is_ended = !is_reading || has_response;
        exchange.interruptions += 1;
        self.abandon(context);
    }

    /// Carries out a local reply that a callback requested.
    pub(super) fn interrupt(&mut self, context: u32, reply: LocalReply) {
        if let Some(forbidden) = self.forbids_reply(context) {
            return self.fail_forbidden(context, reply.callback, &forbidden);
        }
        let (has_response, profile) = (
            self.has_response(context),
            self.store.data().options.profile,
        );
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        if exchange.is_reset {
            return;
        }
        let is_first = exchange.reply.is_none() && exchange.prepared.is_none();
        // In the request's callbacks Envoy sends the first reply, after the callback. Elsewhere it sends each at once, and the
        // last one is what the client receives.
        let is_in_request =
            exchange.request.running.is_some() && exchange.response.running.is_none();
        if !is_first && (is_in_request || !profile.sends_last_reply()) {
            return;
        }
        if is_in_request && profile.acts_before_result() {
            exchange.prepared = Some(reply);
            exchange.interruptions += 1;
            return;
        }
        // The end of a response ends the stream, and so does the end of a second reply.
        exchange.is_ended = has_response;
        let is_late = matches!(
            exchange.response.running,
            Some(Phase::Body { .. } | Phase::Trailers)
        );
        if !is_first && !is_late {
            exchange.reply = None;
            exchange.response = Direction::default();
        }
        // The response callbacks run on a local reply unless they have already seen a response.
        self.reply(context, reply, !has_response);
    }

    /// Runs the events that wait on `side` until the filter holds one that blocks.
    fn run(&mut self, context: u32, side: Side) {
        loop {
            let has_request = self.has_request(context);
            let Some(exchange) = self.exchanges.get_mut(&context) else {
                return;
            };
            // A reply of `on_context_create` is sent after the first callback.
            let waits_for_headers = exchange.prepared.is_some() && !has_request;
            if exchange.is_over(side) && !waits_for_headers {
                return;
            }
            let direction = exchange.direction_mut(side);
            if matches!(
                direction.paused,
                Some(Phase::Headers | Phase::Trailers | Phase::Connection)
            ) {
                let is_limited = direction.buffering == Some(Buffering::Limit);
                let waiting: usize = direction.waiting.iter().map(Event::body_size).sum();
                if is_limited && waiting > self.buffer_limit() {
                    self.exceed_buffer_limit(context, side);
                }
                return;
            }
            if direction.buffering == Some(Buffering::Watermark)
                && self.held_size(context, side) > self.buffer_limit()
            {
                return;
            }
            let Some(exchange) = self.exchanges.get_mut(&context) else {
                return;
            };
            let Some(event) = exchange.direction_mut(side).waiting.pop_front() else {
                return;
            };
            self.deliver(context, side, event);
        }
    }

    /// Calls the filter with an event and handles its result.
    fn deliver(&mut self, context: u32, side: Side, event: Event) {
        let buffer_limit = self.buffer_limit();
        let now = self.host().now();
        let Some(stream) = self.store.data_mut().streams.get_mut(&context) else {
            // The VM was reloaded: the stream belongs to the old one.
            return self.fail(context);
        };
        let is_request = side == Side::Request;
        let mut exceeds = false;
        let (phase, callback, arguments) = match event {
            Event::Headers(headers, end_of_stream) => {
                let number = length_u32(headers.len());
                let (map, callback) = if is_request {
                    (&mut stream.request_headers, "proxy_on_request_headers")
                } else {
                    (&mut stream.response_headers, "proxy_on_response_headers")
                };
                if !is_request {
                    stream.response_code = headers.get(":status").map(<[u8]>::to_vec);
                    if end_of_stream {
                        stream.response_ended_at = Some(now);
                    }
                }
                *map = Some(headers);
                *stream.holds_headers_mut(side) = true;
                let arguments = vec![context, number, u32::from(end_of_stream)];
                if end_of_stream && let Some(exchange) = self.exchanges.get_mut(&context) {
                    exchange.direction_mut(side).ends_with_headers = true;
                }
                (Phase::Headers, callback, arguments)
            }
            Event::Body(frame, end_of_stream) => {
                if is_request {
                    stream.received += frame.len() as u64;
                } else if end_of_stream {
                    stream.response_ended_at = Some(now);
                }
                let body = stream.body_mut(side);
                body.extend(frame);
                let exchange = self.exchanges.get(&context);
                let buffering = exchange.and_then(|exchange| exchange.direction(side).buffering);
                exceeds = buffering == Some(Buffering::Limit) && body.len() > buffer_limit;
                if exceeds && !is_request {
                    return self.exceed_buffer_limit(context, side);
                }
                let size = length_u32(body.len());
                let callback = if is_request {
                    "proxy_on_request_body"
                } else {
                    "proxy_on_response_body"
                };
                let arguments = vec![context, size, u32::from(end_of_stream)];
                (Phase::Body { end_of_stream }, callback, arguments)
            }
            Event::Trailers(trailers) => {
                let number = length_u32(trailers.len());
                let (map, callback) = if is_request {
                    (&mut stream.request_trailers, "proxy_on_request_trailers")
                } else {
                    (&mut stream.response_trailers, "proxy_on_response_trailers")
                };
                *map = Some(trailers);
                if !is_request {
                    stream.response_ended_at = Some(now);
                }
                (Phase::Trailers, callback, vec![context, number])
            }
            Event::Connection => (Phase::Connection, "proxy_on_new_connection", vec![context]),
            Event::Data(data, end_of_stream) => {
                let body = stream.body_mut(side);
                body.extend(data);
                let size = length_u32(body.len());
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
        if is_request {
            stream.is_request_closed = false;
        }
        let mut interruptions = 0;
        if let Some(exchange) = self.exchanges.get_mut(&context) {
            exchange.direction_mut(side).running = Some(phase);
            interruptions = exchange.interruptions;
            if exceeds {
                exchange.prepared = Some(LocalReply::for_too_large(side));
                exchange.interruptions += 1;
            }
        }
        let called = self.call(context, callback, &arguments);
        if called.is_ok() {
            if self.store.data().options.profile.acts_before_result() {
                self.carry_out_all();
            } else {
                self.carry_out_interruptions();
            }
        }
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        let direction = exchange.direction_mut(side);
        direction.running = None;
        let continued_by = direction.continued_by.take();
        let action = match called {
            Ok(action) => action.unwrap_or(CONTINUE),
            Err(failure) => {
                exchange.failure = Some(failure);
                return self.fail(context);
            }
        };
        let is_interrupted = exchange.interruptions != interruptions;
        let prepared = exchange.prepared.take().filter(|_| !exchange.is_reset);
        if self.failure.is_some() {
            // What the callback requested made the VM fail.
            if !is_interrupted {
                self.fail(context);
            }
            return;
        }
        if let Some(forbidden) = self.forbids_result(context, side, phase, action, continued_by) {
            let callback = continued_by.unwrap_or(callback);
            return self.fail_forbidden(context, callback, &forbidden);
        }
        let is_forwarded = continued_by.is_some()
            && self
                .store
                .data()
                .streams
                .get(&context)
                .is_some_and(|stream| stream.phase(side).is_none());
        if let Some(reply) = prepared {
            return self.reply(context, reply, true);
        }
        if is_interrupted || is_forwarded {
            return;
        }
        let stops_at_headers_only = self.stops_at_headers_only();
        let profile = self.store.data().options.profile;
        let Some(stream) = self.store.data_mut().streams.get_mut(&context) else {
            return;
        };
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        let direction = exchange.direction_mut(side);
        match (phase, action) {
            (_, CONTINUE) | (Phase::Headers, CONTINUE_AND_END_STREAM) => {
                let loses_body = phase == Phase::Trailers && direction.is_resuming_headers;
                if loses_body && profile.loses_resumed_bodies() {
                    stream.body_mut(side).clear();
                }
                direction.paused = None;
                direction.buffering = None;
                if phase == Phase::Headers {
                    *stream.holds_headers_mut(side) = false;
                }
                self.forward(context, side, phase);
            }
            (Phase::Headers, STOP_ITERATION) if stops_at_headers_only => {
                direction.has_stopped_headers = true;
            }
            (_, action) => {
                direction.paused = Some(phase);
                let is_body = matches!(phase, Phase::Body { .. });
                direction.buffering = match (phase, action) {
                    (Phase::Body { .. }, STOP_AND_BUFFER)
                    | (Phase::Headers, STOP_ALL_AND_BUFFER) => Some(Buffering::Limit),
                    (Phase::Body { .. }, STOP_AND_WATERMARK) => Some(Buffering::Watermark),
                    _ => None,
                };
                if is_body && action >= STOP_WITHOUT_BUFFER {
                    stream.body_mut(side).clear();
                }
                let is_limited = direction.buffering == Some(Buffering::Limit);
                if is_body && is_limited && stream.body_mut(side).len() > buffer_limit {
                    self.exceed_buffer_limit(context, side);
                }
            }
        }
    }

    /// Forwards the contents of `phase` and closes it to the filter. Headers that were stopped alone are forwarded first.
    fn forward(&mut self, context: u32, side: Side, phase: Phase) {
        let now = self.host().now();
        let (Some(stream), Some(exchange)) = (
            self.store.data_mut().streams.get_mut(&context),
            self.exchanges.get_mut(&context),
        ) else {
            return;
        };
        *stream.phase_mut(side) = None;
        let direction = exchange.direction_mut(side);
        let is_after_headers = !matches!(phase, Phase::Headers);
        if std::mem::take(&mut direction.has_stopped_headers) && is_after_headers {
            let headers = stream.headers(side).cloned().unwrap_or_default();
            if side == Side::Request {
                stream.first_sent_at = Some(now);
            }
            exchange.forward(side, Event::Headers(headers, false));
        }
        if side == Side::Response {
            stream.sent += stream.response_body.len() as u64;
        }
        let direction = exchange.direction_mut(side);
        match phase {
            Phase::Headers => {
                let headers = stream.headers(side).cloned().unwrap_or_default();
                match side {
                    Side::Request => stream.first_sent_at = Some(now),
                    Side::Response => {
                        stream.response_code = headers.get(":status").map(<[u8]>::to_vec);
                    }
                }
                let is_end = direction.ends_with_headers;
                exchange.forward(side, Event::Headers(headers, is_end));
            }
            Phase::Body { end_of_stream } => {
                let body = std::mem::take(stream.body_mut(side));
                let trailers = end_of_stream
                    .then(|| stream.trailers(side).cloned())
                    .flatten();
                exchange.forward(side, Event::Body(body, end_of_stream && trailers.is_none()));
                if let Some(trailers) = trailers {
                    exchange.forward(side, Event::Trailers(trailers));
                }
            }
            Phase::Trailers => {
                let body = std::mem::take(stream.body_mut(side));
                let trailers = stream.trailers(side).cloned().unwrap_or_default();
                if !body.is_empty() {
                    exchange.forward(side, Event::Body(body, false));
                }
                exchange.forward(side, Event::Trailers(trailers));
            }
            Phase::Connection => exchange.forward(side, Event::Connection),
            Phase::Data { end_of_stream } => {
                let data = std::mem::take(stream.body_mut(side));
                exchange.forward(side, Event::Data(data, end_of_stream));
            }
        }
    }

    /// Sends a local reply in place of the upstream's response. Resets the stream if response headers were already
    /// forwarded.
    fn reply(&mut self, context: u32, reply: LocalReply, runs_callbacks: bool) {
        let stream = self.store.data().streams.get(&context);
        let request = stream.and_then(|stream| stream.request_headers.as_ref());
        let (headers, body) = reply.to_response(request);
        self.abandon(context);
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        exchange.interruptions += 1;
        if exchange.response.forwarded.is_some() {
            exchange.is_reset = true;
            return;
        }
        let details = reply.details.clone();
        exchange.reply = Some(reply);
        if let Some(stream) = self.store.data_mut().streams.get_mut(&context) {
            stream.code_details = Some(details);
            stream.response_code = headers.get(":status").map(<[u8]>::to_vec);
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
            exchange.forward(Side::Response, Event::Headers(headers.clone(), !has_body));
            if has_body {
                exchange.forward(Side::Response, Event::Body(body, true));
            }
            // In `on_log` the filter reads the headers of the local reply.
            if let Some(stream) = self.host().streams.get_mut(&context) {
                stream.response_headers = Some(headers);
            }
        }
    }

    /// Ends a stream whose filter holds more of a body than the buffer limit allows.
    fn exceed_buffer_limit(&mut self, context: u32, side: Side) {
        let has_response = self.has_response(context);
        if let Some(exchange) = self.exchanges.get_mut(&context) {
            exchange.is_ended = has_response;
        }
        self.reply(context, LocalReply::for_too_large(side), !has_response);
    }

    fn buffer_limit(&self) -> usize {
        let options = &self.store.data().options;
        if options.profile.limits_buffers() {
            options.buffer_limit
        } else {
            usize::MAX
        }
    }

    fn held_size(&mut self, context: u32, side: Side) -> usize {
        let stream = self.host().streams.get_mut(&context);
        stream.map_or(0, |stream| stream.body_mut(side).len())
    }

    /// Ends a stream whose filter failed, as Envoy does: a 503 that no callback sees; a connection is closed.
    pub(super) fn fail(&mut self, context: u32) {
        if let Some(exchange) = self.exchanges.get_mut(&context)
            && exchange.is_connection
        {
            exchange.is_reset = true;
            exchange.interruptions += 1;
            return self.abandon(context);
        }
        self.reply(context, LocalReply::for_failed_filter(), false);
    }

    /// Ends the streams that a failed filter paused, because nothing can continue them.
    pub(crate) fn fail_paused(&mut self) {
        let is_paused = |exchange: &Exchange| {
            Side::BOTH
                .into_iter()
                .any(|side| exchange.flow(side) == Flow::Paused)
        };
        let exchanges = self.exchanges.iter();
        let paused: Vec<u32> = exchanges
            .filter(|(_, exchange)| is_paused(exchange))
            .map(|(context, _)| *context)
            .collect();
        for context in paused {
            self.fail(context);
        }
    }

    /// Discards held data and waiting events on both sides.
    fn abandon(&mut self, context: u32) {
        if let Some(exchange) = self.exchanges.get_mut(&context) {
            for direction in [&mut exchange.request, &mut exchange.response] {
                direction.waiting.clear();
                direction.paused = None;
                direction.buffering = None;
                direction.has_stopped_headers = false;
            }
        }
        if let Some(stream) = self.host().streams.get_mut(&context) {
            stream.request_phase = None;
            stream.response_phase = None;
            stream.request_body.clear();
            stream.response_body.clear();
        }
    }

    /// Returns true if body callbacks run while headers are held.
    fn stops_at_headers_only(&self) -> bool {
        let host = self.store.data();
        host.version == Version::V0_1_0 || host.options.allow_on_headers_stop_iteration
    }
}

/// `Continue` of every callback.
pub(super) const CONTINUE: u32 = 0;

/// `ContinueAndEndStream` of the header callbacks, which Envoy 1.40 treats as `Continue`.
const CONTINUE_AND_END_STREAM: u32 = 2;

/// `StopIteration` of the header callbacks.
const STOP_ITERATION: u32 = 1;

/// `StopIterationAndBuffer` of the body callbacks.
const STOP_AND_BUFFER: u32 = 1;

/// `StopIterationAndWatermark` of the body callbacks.
const STOP_AND_WATERMARK: u32 = 2;

/// `StopAllIterationAndBuffer` of the header callbacks.
const STOP_ALL_AND_BUFFER: u32 = 3;

/// `StopIterationNoBuffer` of the body callbacks. Envoy treats every larger number alike.
const STOP_WITHOUT_BUFFER: u32 = 3;
