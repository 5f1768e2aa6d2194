//! How does a connection go through a network filter?
//!
//! In Envoy 1.40's order: `on_new_connection`, then data both ways as they come, then the closes. A callback that does
//! not continue holds the data: they wait, and the next callback sees old and new together. A held connection holds
//! back its data: the TCP proxy behind reads only when it has its upstream. The filter may continue what it holds of the
//! client's side, never of the upstream's. The upstream's end is told by `on_upstream_connection_close`, with no word on
//! who closed; a filter that closes is told so as well, by `on_downstream_connection_close`. In the end come `on_done`,
//! `on_log`, `on_delete`.
//!
//! Measured in Envoy 1.40 with a TCP proxy behind the filter; what continues the upstream's side, and the order at the
//! end, read in its `Context` as well. There is no chain of network filters here.

use crate::abi::property::Properties;
use crate::plugin::Plugin;
use crate::stream::{Flow, Side, Stream};
use crate::vm::exchange::Event;
use crate::vm::outcome::Outcome;

/// One open connection.
pub struct Connection {
    stream: Stream,
    is_closed: bool,
}

/// Who closed a connection (`proxy_peer_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    /// Nobody can tell.
    Unknown = 0,
    /// The proxy.
    Local = 1,
    /// The other end.
    Remote = 2,
}

impl Connection {
    pub(crate) fn open(plugin: Plugin, properties: Properties) -> Self {
        let mut connection = Self {
            stream: Stream::open_connection(plugin, properties),
            is_closed: false,
        };
        connection.feed(Side::Request, Event::Connection);
        connection
    }

    /// Feeds what the client sends: `on_downstream_data`.
    pub fn downstream_data(&mut self, data: Vec<u8>, end_of_stream: bool) -> Flow {
        self.feed(Side::Request, Event::Data(data, end_of_stream))
    }

    /// Feeds what the upstream sends: `on_upstream_data` and, at the end, `on_upstream_connection_close`.
    pub fn upstream_data(&mut self, data: Vec<u8>, end_of_stream: bool) -> Flow {
        if self.is_closed {
            return Flow::Reset;
        }
        let flow = self.feed(Side::Response, Event::Data(data, end_of_stream));
        if end_of_stream {
            let unknown = ClosedBy::Unknown as u32;
            self.stream
                .tell("proxy_on_upstream_connection_close", unknown);
        }
        flow
    }

    /// Closes the connection to the client: `on_downstream_connection_close`. Nothing is fed any more.
    pub fn close(&mut self, by: ClosedBy) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.stream
                .tell("proxy_on_downstream_connection_close", by as u32);
        }
    }

    /// How the client's side stands, which is [`Side::Request`], or the upstream's. [`Flow::Reset`] if it is closed.
    pub fn flow(&mut self, side: Side) -> Flow {
        // A filter may close from a tick or for another stream.
        if self.stream.is_reset() {
            self.close(ClosedBy::Local);
        }
        if self.is_closed {
            return Flow::Reset;
        }
        self.stream.flow(side)
    }

    /// Ends the connection, which the proxy closes if nobody has, and says what came of it: as bodies, what passed to
    /// the upstream and to the client.
    pub fn finish(mut self) -> Outcome {
        self.close(ClosedBy::Local);
        self.stream.finish()
    }

    fn feed(&mut self, side: Side, event: Event) -> Flow {
        if !self.is_closed {
            self.stream.feed(side, event);
        }
        self.flow(side)
    }
}
