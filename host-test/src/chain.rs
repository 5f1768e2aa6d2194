//! Sends a request through several plugins.
//!
//! In Envoy's order: the request goes from the first plugin to the last, the response from the last to the first. Each
//! filter receives what the previous one forwarded, frame by frame. A local reply goes back through the filter that sent it
//! and those before it; the filters after it see neither request nor response.

use crate::abi::{HeaderMap, Properties};
use crate::envoy::filter_state::FilterState;
use crate::event::{Event, Flow, Message, Side};
use crate::plugin::Plugin;
use crate::stream::Stream;
use crate::vm::outcome::Outcome;

/// A list of plugins, in the order of a listener's configuration.
#[derive(Clone)]
pub struct Chain {
    plugins: Vec<Plugin>,
}

/// An open stream through a chain.
pub struct ChainStream {
    streams: Vec<Stream>,
    upstream: Option<Message>,
    downstream: Option<Message>,
}

/// The outcome of a stream through a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainOutcome {
    /// The request as the upstream received it; `None` if it received none.
    pub upstream: Option<Message>,
    /// The response as the client received it; `None` if it received none.
    pub downstream: Option<Message>,
    /// The outcome in each filter.
    pub filters: Vec<Outcome>,
}

impl Chain {
    /// Builds a chain from plugins.
    pub fn new(plugins: impl IntoIterator<Item = Plugin>) -> Self {
        Self {
            plugins: plugins.into_iter().collect(),
        }
    }

    /// Opens a stream in every filter.
    pub fn stream(&self, properties: &Properties) -> ChainStream {
        let filter_state = FilterState::default();
        let open = |plugin: &Plugin| {
            Stream::open_in_chain(plugin.clone(), properties.clone(), filter_state.clone())
        };
        ChainStream {
            streams: self.plugins.iter().map(open).collect(),
            upstream: None,
            downstream: None,
        }
    }
}

impl ChainStream {
    /// Feeds the request's headers, pseudo-headers first.
    pub fn request_headers(&mut self, headers: HeaderMap, end_of_stream: bool) -> Flow {
        self.feed(Side::Request, Event::Headers(headers, end_of_stream))
    }

    /// Feeds a frame of the request's body.
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

    /// Returns the state of `side`: the most severe one of all filters.
    pub fn flow(&mut self, side: Side) -> Flow {
        self.propagate();
        let flows = self.streams.iter().map(|stream| stream.flow(side));
        flows.max().unwrap_or(Flow::Continue)
    }

    /// Returns the headers that all filters forwarded on `side`; `None` if there are none yet.
    pub fn headers(&mut self, side: Side) -> Option<HeaderMap> {
        self.propagate();
        let message = match side {
            Side::Request => &self.upstream,
            Side::Response => &self.downstream,
        };
        message.as_ref().map(|message| message.headers.clone())
    }

    /// Ends the stream in every filter, beginning with the first.
    pub fn finish(mut self) -> ChainOutcome {
        self.propagate();
        ChainOutcome {
            upstream: self.upstream,
            downstream: self.downstream,
            filters: self.streams.into_iter().map(Stream::finish).collect(),
        }
    }

    pub(crate) fn feed(&mut self, side: Side, event: Event) -> Flow {
        let entry = match side {
            Side::Request => self.streams.first_mut(),
            Side::Response => self.streams.last_mut(),
        };
        match entry {
            Some(stream) => {
                stream.feed(side, event);
            }
            None => self.record(side, event),
        }
        self.flow(side)
    }

    /// Passes forwarded events to the next filters until no event is left.
    fn propagate(&mut self) {
        loop {
            let mut has_moved = false;
            for index in 0..self.streams.len() {
                for side in [Side::Request, Side::Response] {
                    has_moved |= self.pass_on(index, side);
                }
            }
            if !has_moved {
                return;
            }
        }
    }

    /// Passes the events that a filter forwarded to the next one. Returns true if there were any.
    fn pass_on(&mut self, index: usize, side: Side) -> bool {
        let Some(stream) = self.streams.get(index) else {
            return false;
        };
        let events = stream.take_forwarded(side);
        if events.is_empty() {
            return false;
        }
        let is_direct = side == Side::Response && stream.has_direct_reply();
        let next = match side {
            Side::Request => index.checked_add(1),
            Side::Response if is_direct => None,
            Side::Response => index.checked_sub(1),
        };
        for event in events {
            match next.and_then(|next| self.streams.get_mut(next)) {
                Some(next) if !next.is_reset() => {
                    next.feed(side, event);
                }
                Some(_) => {}
                None => self.record(side, event),
            }
        }
        true
    }

    /// Adds an event that left the chain to the message.
    fn record(&mut self, side: Side, event: Event) {
        let message = match side {
            Side::Request => &mut self.upstream,
            Side::Response => &mut self.downstream,
        };
        message.get_or_insert_default().append(event);
    }
}
