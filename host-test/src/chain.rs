//! How does a request go through several filters?
//!
//! In Envoy's order: the request from the first to the last, the response from the last to the first. What one filter
//! lets pass is what the next one sees, frame by frame. A filter's own answer goes back through itself and those before
//! it; the ones behind it see neither request nor response.

use crate::abi::header_map::HeaderMap;
use crate::abi::property::Properties;
use crate::envoy::filter_state::FilterState;
use crate::plugin::Plugin;
use crate::stream::{Flow, Side, Stream};
use crate::vm::exchange::Event;
use crate::vm::outcome::{Message, Outcome};

/// Plugins in the order in which a listener names them.
#[derive(Clone)]
pub struct Chain {
    plugins: Vec<Plugin>,
}

/// One open stream through a chain.
pub struct ChainStream {
    streams: Vec<Stream>,
    upstream: Option<Message>,
    downstream: Option<Message>,
}

/// What came of a stream through a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainOutcome {
    /// What went to the upstream; `None` if it was not asked.
    pub upstream: Option<Message>,
    /// What went to the client; `None` if nothing did.
    pub downstream: Option<Message>,
    /// What came of it in each filter.
    pub filters: Vec<Outcome>,
}

impl Chain {
    /// Puts plugins in a chain.
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

    /// How `side` stands now: as the filter that hinders it most has it.
    pub fn flow(&mut self, side: Side) -> Flow {
        self.move_on();
        let flows = self.streams.iter().map(|stream| stream.flow(side));
        flows.max().unwrap_or(Flow::Continue)
    }

    /// The headers that have passed every filter on `side`; `None` as long as none have.
    pub fn headers(&mut self, side: Side) -> Option<HeaderMap> {
        self.move_on();
        let message = match side {
            Side::Request => &self.upstream,
            Side::Response => &self.downstream,
        };
        message.as_ref().map(|message| message.headers.clone())
    }

    /// Ends the stream in every filter, the first one first.
    pub fn finish(mut self) -> ChainOutcome {
        self.move_on();
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
            None => self.arrive(side, event),
        }
        self.flow(side)
    }

    /// Hands on what has passed each filter, until nothing moves.
    fn move_on(&mut self) {
        loop {
            let mut has_moved = false;
            for place in 0..self.streams.len() {
                for side in [Side::Request, Side::Response] {
                    has_moved |= self.hand_on(place, side);
                }
            }
            if !has_moved {
                return;
            }
        }
    }

    fn hand_on(&mut self, place: usize, side: Side) -> bool {
        let Some(stream) = self.streams.get(place) else {
            return false;
        };
        let events = stream.take_passed(side);
        if events.is_empty() {
            return false;
        }
        let is_direct = side == Side::Response && stream.has_direct_reply();
        let next = match side {
            Side::Request => place.checked_add(1),
            Side::Response if is_direct => None,
            Side::Response => place.checked_sub(1),
        };
        for event in events {
            match next.and_then(|next| self.streams.get_mut(next)) {
                Some(next) if !next.is_reset() => {
                    next.feed(side, event);
                }
                Some(_) => {}
                None => self.arrive(side, event),
            }
        }
        true
    }

    /// Writes down what has passed the whole chain.
    fn arrive(&mut self, side: Side, event: Event) {
        let message = match side {
            Side::Request => &mut self.upstream,
            Side::Response => &mut self.downstream,
        };
        message.get_or_insert_default().take(event);
    }
}
