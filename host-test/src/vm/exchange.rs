//! Holds the progress of one stream: the events that wait, the phase that the filter paused, and the forwarded messages.

use std::collections::VecDeque;

use super::failure::Failure;
use super::outcome::Outcome;
use super::state::{Phase, Record};
use crate::envoy::filter_state::Entries;
use crate::envoy::local_reply::LocalReply;
use crate::event::{Event, Flow, Message, Side};

/// The progress of a stream.
#[derive(Default)]
pub(crate) struct Exchange {
    pub(super) request: Direction,
    pub(super) response: Direction,
    pub(super) reply: Option<LocalReply>,
    /// The local reply that is sent when the running callback of the request has returned. One of `on_context_create` is
    /// sent after the callback of the request's headers, which Envoy calls next.
    pub(super) prepared: Option<LocalReply>,
    /// True if the local reply bypassed this filter's callbacks, and so those of the filters before it.
    pub(super) reply_is_direct: bool,
    pub(super) is_reset: bool,
    /// True once Envoy has ended the stream because of the filter: to end it again crashes Envoy 1.40.
    pub(super) is_ended: bool,
    /// True once the end of the request has arrived, even if the filter has not seen it.
    pub(super) has_whole_request: bool,
    /// The number of local replies, closes and failures so far.
    pub(super) interruptions: u32,
    pub(super) failure: Option<Failure>,
    /// True if the stream bypasses the filter because its VM has failed and the failure policy is open.
    is_bypassing: bool,
    /// True if another filter takes the forwarded events.
    is_chained: bool,
    /// True for a connection through a network filter.
    pub(super) is_connection: bool,
}

/// One side of an exchange.
#[derive(Default)]
pub(super) struct Direction {
    /// Events that the filter has not seen.
    pub(super) waiting: VecDeque<Event>,
    /// The phase that the filter paused.
    pub(super) paused: Option<Phase>,
    /// The phase whose callback is running.
    pub(super) running: Option<Phase>,
    /// The callback that continued this side while its own callback was running, if any.
    pub(super) continued_by: Option<&'static str>,
    /// True if the end of the message was forwarded.
    pub(super) is_complete: bool,
    /// How a held body is limited; `None` if no body is held.
    pub(super) buffering: Option<Buffering>,
    /// True if paused headers do not block the body callbacks.
    pub(super) has_stopped_headers: bool,
    /// True while the events that waited for paused headers are delivered.
    pub(super) is_resuming_headers: bool,
    /// True if the headers end the message.
    pub(super) ends_with_headers: bool,
    pub(super) forwarded: Option<Message>,
    /// Forwarded events that the next filter of a chain has not taken.
    pub(super) outbox: VecDeque<Event>,
}

/// How Envoy limits the part of a body that is held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffering {
    /// More than the limit is an error.
    Limit,
    /// Once there is more than the limit, nothing is read any more.
    Watermark,
}

impl Direction {
    /// Adds an event that the filter has not seen. While headers are paused, Envoy collects the body in one buffer.
    pub(super) fn add_waiting(&mut self, event: Event) {
        match (self.paused, self.waiting.back_mut(), event) {
            (
                Some(Phase::Headers),
                Some(Event::Body(body, is_end)),
                Event::Body(frame, end_of_stream),
            ) => {
                body.extend(frame);
                *is_end |= end_of_stream;
            }
            (_, _, event) => self.waiting.push_back(event),
        }
    }
}

impl Exchange {
    pub(crate) fn flow(&self, side: Side) -> Flow {
        if self.is_reset {
            Flow::Reset
        } else if self.reply.is_some()
            && !(side == Side::Response && self.direction(side).paused.is_some())
        {
            // The filter's own response callbacks may pause its local reply.
            Flow::Replied
        } else if self.direction(side).paused.is_some() || self.direction(side).has_stopped_headers
        {
            Flow::Paused
        } else {
            Flow::Continue
        }
    }

    pub(crate) fn forwarded(&self, side: Side) -> Option<&Message> {
        self.direction(side).forwarded.as_ref()
    }

    pub(crate) fn forwarded_mut(&mut self, side: Side) -> Option<&mut Message> {
        self.direction_mut(side).forwarded.as_mut()
    }

    /// Makes the stream bypass the filter.
    pub(crate) fn bypassing(self) -> Self {
        Self {
            is_bypassing: true,
            ..self
        }
    }

    /// Creates a connection through a network filter.
    pub(crate) fn for_connection() -> Self {
        Self {
            is_connection: true,
            ..Self::default()
        }
    }

    pub(crate) fn is_connection(&self) -> bool {
        self.is_connection
    }

    pub(crate) fn is_bypassing(&self) -> bool {
        self.is_bypassing
    }

    /// Keeps forwarded events for the next filter of a chain.
    pub(crate) fn chain(&mut self) {
        self.is_chained = true;
    }

    /// Takes the events forwarded on `side`, for the next filter of a chain.
    pub(crate) fn take_forwarded(&mut self, side: Side) -> VecDeque<Event> {
        std::mem::take(&mut self.direction_mut(side).outbox)
    }

    /// Returns true if the filter sent a local reply that bypassed its own callbacks.
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
        let paused: Vec<Side> = Side::BOTH
            .into_iter()
            .filter(|side| self.flow(*side) == Flow::Paused)
            .collect();
        let blocks_body = |side: &Side| {
            let direction = self.direction(*side);
            direction.paused == Some(Phase::Headers) && !direction.waiting.is_empty()
        };
        let blocked_bodies = paused.iter().copied().filter(blocks_body).collect();
        Outcome {
            upstream: self.request.forwarded,
            downstream: self.response.forwarded,
            local_reply: self.reply,
            failure: self.failure.or(failure),
            is_reset: self.is_reset,
            paused,
            blocked_bodies,
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

    pub(super) fn direction(&self, side: Side) -> &Direction {
        match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        }
    }

    pub(super) fn direction_mut(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    /// Adds an event to the forwarded message, and to the outbox if the stream is chained.
    pub(super) fn forward(&mut self, side: Side, event: Event) {
        let is_chained = self.is_chained;
        let direction = self.direction_mut(side);
        direction.is_complete = event.ends_message();
        if is_chained {
            direction.outbox.push_back(event.clone());
        }
        direction.forwarded.get_or_insert_default().append(event);
    }

    /// Returns true if `side` accepts no more events: a local reply ends the request, a reset ends both sides.
    pub(super) fn is_over(&self, side: Side) -> bool {
        let is_replied = self.reply.is_some() || self.prepared.is_some();
        self.is_reset || (side == Side::Request && is_replied)
    }
}
