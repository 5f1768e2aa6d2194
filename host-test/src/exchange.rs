//! How does a message pass the filter, frame by frame?
//!
//! Each side is a queue of events. An event goes to its callback; if the callback continues, it passes; if not, it
//! stays with the filter. Held headers hold back everything behind them. A held body does not: the next callback sees
//! old and new together. Measured in Envoy 1.40 for ABI 0.2.
//!
//! Return values: 0 continues; for a body, 3 drops what is there; everything else holds. That is Envoy's for all values
//! a Rust or Go module returns; the C++ SDK's `ContinueAndEndStream` (2, headers) is held, too.

use std::collections::VecDeque;

use crate::failure::Failure;
use crate::header_map::HeaderMap;
use crate::host::{Phase, Record};
use crate::outcome::{Message, Outcome};
use crate::reply::LocalReply;
use crate::stream::{Flow, Side};
use crate::vm::Vm;

/// Something that arrives on one side of a stream.
pub(crate) enum Event {
    Headers(HeaderMap, bool),
    Body(Vec<u8>, bool),
    Trailers(HeaderMap),
}

/// How one stream stands.
#[derive(Default)]
pub(crate) struct Exchange {
    request: Direction,
    response: Direction,
    reply: Option<LocalReply>,
    is_reset: bool,
}

#[derive(Default)]
struct Direction {
    waiting: VecDeque<Event>,
    held: Option<Phase>,
    is_ending: bool,
    passed: Option<Message>,
}

impl Exchange {
    pub(crate) fn flow(&self, side: Side) -> Flow {
        if self.is_reset {
            Flow::Reset
        } else if self.reply.is_some() {
            Flow::Replied
        } else if self.direction(side).held.is_some() {
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

    pub(crate) fn into_outcome(
        self,
        record: Record,
        failure: Option<Failure>,
        waits_for_done: bool,
    ) -> Outcome {
        let paused = [Side::Request, Side::Response]
            .into_iter()
            .filter(|side| self.flow(*side) == Flow::Paused)
            .collect();
        Outcome {
            upstream: self.request.passed,
            downstream: self.response.passed,
            local_reply: self.reply,
            failure,
            is_reset: self.is_reset,
            paused,
            waits_for_done,
            logs: record.logs,
            calls: record.calls,
            fuel: record.fuel,
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
            exchange.direction_mut(side).waiting.push_back(event);
            self.run(context, side);
        }
    }

    /// Lets go what the filter holds on `side`, and what waits behind it. Nothing held: nothing happens.
    pub(crate) fn resume(&mut self, context: u32, side: Side) {
        let held = self
            .exchanges
            .get_mut(&context)
            .filter(|exchange| !exchange.is_over(side))
            .and_then(|exchange| exchange.direction_mut(side).held.take());
        if let Some(phase) = held {
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
            if matches!(direction.held, Some(Phase::Headers | Phase::Trailers)) {
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
            return;
        };
        let is_request = side == Side::Request;
        let (phase, callback, arguments) = match event {
            Event::Headers(headers, end_of_stream) => {
                let count = to_u32(headers.len());
                let (map, callback) = if is_request {
                    (&mut stream.request_headers, "proxy_on_request_headers")
                } else {
                    (&mut stream.response_headers, "proxy_on_response_headers")
                };
                *map = Some(headers);
                let arguments = vec![context, count, u32::from(end_of_stream)];
                if end_of_stream && let Some(exchange) = self.exchanges.get_mut(&context) {
                    exchange.direction_mut(side).is_ending = true;
                }
                (Phase::Headers, callback, arguments)
            }
            Event::Body(frame, end_of_stream) => {
                let body = stream.body_mut(side);
                body.extend(frame);
                let size = to_u32(body.len());
                let callback = if is_request {
                    "proxy_on_request_body"
                } else {
                    "proxy_on_response_body"
                };
                let arguments = vec![context, size, u32::from(end_of_stream)];
                (Phase::Body { end_of_stream }, callback, arguments)
            }
            Event::Trailers(trailers) => {
                let count = to_u32(trailers.len());
                let (map, callback) = if is_request {
                    (&mut stream.request_trailers, "proxy_on_request_trailers")
                } else {
                    (&mut stream.response_trailers, "proxy_on_response_trailers")
                };
                *map = Some(trailers);
                (Phase::Trailers, callback, vec![context, count])
            }
        };
        *stream.phase_mut(side) = Some(phase);
        let Ok(action) = self.call(context, callback, &arguments) else {
            return self.fail(context);
        };
        let Some(stream) = self.store.data_mut().streams.get_mut(&context) else {
            return;
        };
        if stream.reply.is_some() || stream.closed {
            return self.interrupt(context);
        }
        let is_body = matches!(phase, Phase::Body { .. });
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        match action.unwrap_or(CONTINUE) {
            CONTINUE => {
                exchange.direction_mut(side).held = None;
                self.pass(context, side, phase);
            }
            action => {
                exchange.direction_mut(side).held = Some(phase);
                if is_body && action == STOP_WITHOUT_BUFFER {
                    stream.body_mut(side).clear();
                }
            }
        }
    }

    /// Lets the contents of `phase` go on, and closes it to the filter.
    fn pass(&mut self, context: u32, side: Side, phase: Phase) {
        let Some(stream) = self.store.data_mut().streams.get_mut(&context) else {
            return;
        };
        *stream.phase_mut(side) = None;
        let (headers, trailers) = match side {
            Side::Request => (&stream.request_headers, &stream.request_trailers),
            Side::Response => (&stream.response_headers, &stream.response_trailers),
        };
        let (headers, trailers) = (headers.clone(), trailers.clone());
        let body = match phase {
            Phase::Headers => Vec::new(),
            Phase::Body { .. } | Phase::Trailers => std::mem::take(stream.body_mut(side)),
        };
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        let direction = exchange.direction_mut(side);
        let passed = direction.passed.get_or_insert_default();
        passed.body.extend(body);
        match phase {
            Phase::Headers => {
                passed.headers = headers.unwrap_or_default();
                passed.is_complete = direction.is_ending;
            }
            Phase::Body { end_of_stream } => {
                passed.is_complete = end_of_stream;
                if end_of_stream {
                    passed.trailers = trailers.unwrap_or_default();
                }
            }
            Phase::Trailers => {
                passed.trailers = trailers.unwrap_or_default();
                passed.is_complete = true;
            }
        }
    }

    /// Answers in place of the upstream. Once response headers have passed it is too late, and the stream is reset.
    fn answer(&mut self, context: u32, reply: LocalReply, runs_callbacks: bool) {
        let Some(stream) = self.store.data().streams.get(&context) else {
            return;
        };
        let (headers, body) = reply.to_response(stream.request_headers.as_ref());
        self.abandon(context);
        let Some(exchange) = self.exchanges.get_mut(&context) else {
            return;
        };
        if exchange.response.passed.is_some() {
            exchange.is_reset = true;
            return;
        }
        exchange.reply = Some(reply);
        if runs_callbacks {
            let has_body = !body.is_empty();
            let waiting = &mut exchange.response.waiting;
            waiting.push_back(Event::Headers(headers, !has_body));
            if has_body {
                waiting.push_back(Event::Body(body, true));
            }
            self.run(context, Side::Response);
        } else {
            exchange.response.passed = Some(Message {
                headers,
                body,
                trailers: HeaderMap::default(),
                is_complete: true,
            });
        }
    }

    /// What Envoy does with a stream whose filter failed: 503, which no callback sees.
    fn fail(&mut self, context: u32) {
        self.answer(context, LocalReply::of_failed_filter(), false);
    }

    /// Forgets what was held and waiting on both sides.
    fn abandon(&mut self, context: u32) {
        if let Some(exchange) = self.exchanges.get_mut(&context) {
            for direction in [&mut exchange.request, &mut exchange.response] {
                direction.waiting.clear();
                direction.held = None;
            }
        }
        if let Some(stream) = self.host().streams.get_mut(&context) {
            stream.request_phase = None;
            stream.response_phase = None;
            stream.request_body.clear();
            stream.response_body.clear();
        }
    }
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// `Continue` of every callback.
const CONTINUE: u32 = 0;

/// `StopIterationNoBuffer` of the body callbacks.
const STOP_WITHOUT_BUFFER: u32 = 3;
