//! Detects host calls that return OK, but crash Envoy 1.40 or corrupt its messages.
//!
//! Measured in Envoy 1.40 by every sequence of up to two of the calls reply, close, continue the request and continue the
//! response, in each callback and from call-outs and ticks, with each result of the callback, for messages with and without a
//! body and trailers. Envoy carries such calls out after the callback but before its result, and does not check that they
//! fit. A filter that makes one of these calls fails here, so that no test overlooks it. The specification does not know them.

use super::Vm;
use super::exchange::Direction;
use super::failure::Failure;
use super::feed::CONTINUE;
use super::state::Phase;
use crate::event::Side;

/// A call that a filter must not make.
pub(super) struct Forbidden {
    action: &'static str,
    effect: &'static str,
}

impl Vm {
    /// Returns true once the filter has received a response or response callbacks have run on its local reply.
    pub(super) fn has_response(&self, context: u32) -> bool {
        let stream = self.store.data().streams.get(&context);
        stream.is_some_and(|stream| stream.response_headers.is_some())
    }

    /// Returns true once the filter has received the request's headers.
    pub(super) fn has_request(&self, context: u32) -> bool {
        let stream = self.store.data().streams.get(&context);
        stream.is_some_and(|stream| stream.request_headers.is_some())
    }

    /// Returns the reason why the filter must not continue `side` now.
    pub(super) fn forbids_continue(&self, context: u32, side: Side) -> Option<Forbidden> {
        let exchange = self.exchanges.get(&context)?;
        if !self.forbids_calls() || exchange.is_connection {
            return None;
        }
        let direction = exchange.direction(side);
        let is_held = direction.paused.is_some() || direction.has_stopped_headers;
        match side {
            Side::Response if !self.has_response(context) => Some(Forbidden {
                action: "continues the response before there is one",
                effect: CRASH,
            }),
            // A reply that replaced a response has ended the stream, and the call has no effect.
            Side::Response
                if exchange.reply.is_some()
                    && !exchange.is_ended
                    && !is_held
                    && direction.running.is_none() =>
            {
                Some(Forbidden {
                    action: "continues the response after it has sent a local reply",
                    effect: "after which Envoy 1.40 sends the reply twice",
                })
            }
            Side::Request if !self.has_request(context) && !exchange.is_over(side) => {
                Some(Forbidden {
                    action: "continues the request before there is one",
                    effect: "after which Envoy 1.40 sends it twice",
                })
            }
            Side::Request
                if direction.running.is_none()
                    && !is_held
                    && direction.is_complete
                    && !exchange.is_over(side)
                    && is_chunked(exchange.forwarded(side)?) =>
            {
                Some(Forbidden {
                    action: "continues a request that it does not hold",
                    effect: "after which Envoy 1.40 sends the end of a chunked body twice",
                })
            }
            _ => None,
        }
    }

    /// Returns the reason why the filter must not close its stream now.
    pub(super) fn forbids_close(&self, context: u32) -> Option<Forbidden> {
        let exchange = self.exchanges.get(&context)?;
        if !self.forbids_calls() || exchange.is_connection {
            return None;
        }
        if !self.has_request(context) {
            return Some(Forbidden {
                action: "closes its stream before there is a request",
                effect: CRASH,
            });
        }
        exchange.is_ended.then_some(Forbidden {
            action: "closes its stream, which it has already ended",
            effect: CRASH,
        })
    }

    /// Returns the reason why the filter must not send a local reply now.
    pub(super) fn forbids_reply(&self, context: u32) -> Option<Forbidden> {
        let exchange = self.exchanges.get(&context)?;
        // After a close that kept the response from being sent, a reply is not sent either.
        let is_unsent = exchange.reply.is_none() && exchange.response.forwarded.is_none();
        (self.forbids_calls() && exchange.is_ended && !is_unsent).then_some(Forbidden {
            action: "sends a local reply on a stream that it has already ended",
            effect: CRASH,
        })
    }

    /// Returns the reason why a callback must not have this result after what it requested. `continued_by`: the callback that
    /// continued the side meanwhile.
    pub(super) fn forbids_result(
        &self,
        context: u32,
        side: Side,
        phase: Phase,
        result: u32,
        continued_by: Option<&str>,
    ) -> Option<Forbidden> {
        let exchange = self.exchanges.get(&context)?;
        if !self.forbids_calls() {
            return None;
        }
        let direction = exchange.direction(side);
        let continues = result == CONTINUE;
        let is_forwarded = self
            .store
            .data()
            .streams
            .get(&context)
            .is_some_and(|stream| stream.phase(side).is_none());
        let is_closed = exchange.is_reset && exchange.reply.is_none();
        match (phase, side) {
            (Phase::Headers, _)
                if continued_by.is_some()
                    && !exchange.is_over(side)
                    && (continues || !direction.ends_with_headers) =>
            {
                Some(Forbidden {
                    action: "continues headers in their own callback",
                    effect: "after which Envoy 1.40 sends them twice, crashes, or never sends the body",
                })
            }
            (
                Phase::Body {
                    end_of_stream: true,
                }
                | Phase::Trailers,
                Side::Response,
            ) if continued_by.is_some() && continues && is_forwarded && !exchange.is_reset => {
                Some(Forbidden {
                    action: "continues the end of the response twice, by the call and by the result of the callback",
                    effect: CRASH,
                })
            }
            (Phase::Trailers, Side::Response) if is_closed && continues => Some(Forbidden {
                action: "closes its stream in the last callback of the response, whose result continues it",
                effect: CRASH,
            }),
            _ => None,
        }
    }

    /// Fails the VM because of a forbidden call.
    pub(super) fn fail_forbidden(&mut self, context: u32, callback: &str, forbidden: &Forbidden) {
        let Forbidden { action, effect } = *forbidden;
        let failure = Failure::Forbidden {
            callback: callback.to_owned(),
            action: action.to_owned(),
            effect: effect.to_owned(),
        };
        if let Some(exchange) = self.exchanges.get_mut(&context) {
            exchange.failure = Some(failure.clone());
            // Whatever the call led to is not what the client receives.
            exchange.response = Direction::default();
            exchange.is_reset = false;
        }
        self.host().requested.clear();
        self.fail(context);
        self.fail_with(failure);
    }

    fn forbids_calls(&self) -> bool {
        let profile = self.store.data().options.profile;
        profile.forbids_fatal_calls()
    }
}

/// Returns true if a request with this head and a body is sent with chunked encoding.
fn is_chunked(message: &crate::event::Message) -> bool {
    let has_body = !message.body.is_empty() || !message.trailers.is_empty();
    has_body && message.headers.get("content-length").is_none()
}

const CRASH: &str = "which crashes Envoy 1.40";
