//! Sends the data of a connection through a network filter.
//!
//! In Envoy 1.40's order: `on_new_connection`, then data in both directions as they arrive, then the closes. If a callback
//! does not continue, the data wait, and the next callback sees old and new data together. A paused connection delays its
//! data because the TCP proxy after the filter reads only once its upstream connection is open. The filter may continue the
//! client's side, but not the upstream's. The end of the upstream is reported by `on_upstream_connection_close`, without
//! the side that closed; if the filter closes, `on_downstream_connection_close` is called as well. The last callbacks are
//! `on_done`, `on_log`, `on_delete`.
//!
//! Measured in Envoy 1.40 with a TCP proxy after the filter; the conditions that resume the upstream's side, and the order
//! at the end, were also read in the source of Envoy's `Context`. Chains of network filters are not supported.

use crate::abi::Properties;
use crate::envoy::filter_state::FilterState;
use crate::event::{Event, Flow, Side};
use crate::plugin::Plugin;
use crate::stream::Stream;
use crate::vm::exchange::Exchange;
use crate::vm::outcome::Outcome;

/// An open connection.
pub struct Connection {
    stream: Stream,
    is_closed: bool,
}

/// The side that closed a connection (`proxy_peer_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    /// The side is not known.
    Unknown = 0,
    /// The proxy.
    Local = 1,
    /// The other end.
    Remote = 2,
}

impl Plugin {
    /// Opens a connection through a network filter: `on_context_create`, `on_new_connection`.
    pub fn connection(&self, properties: Properties) -> Connection {
        let stream = Stream::open(
            self.clone(),
            properties,
            FilterState::default(),
            Exchange::for_connection(),
        );
        let mut connection = Connection {
            stream,
            is_closed: false,
        };
        connection.feed(Side::Request, Event::Connection);
        connection
    }
}

impl Connection {
    /// Feeds data from the client: `on_downstream_data`.
    pub fn downstream_data(&mut self, data: Vec<u8>, end_of_stream: bool) -> Flow {
        self.feed(Side::Request, Event::Data(data, end_of_stream))
    }

    /// Feeds data from the upstream: `on_upstream_data` and, at the end, `on_upstream_connection_close`.
    pub fn upstream_data(&mut self, data: Vec<u8>, end_of_stream: bool) -> Flow {
        if self.is_closed {
            return Flow::Reset;
        }
        let flow = self.feed(Side::Response, Event::Data(data, end_of_stream));
        if end_of_stream {
            let unknown = ClosedBy::Unknown as u32;
            self.stream
                .notify("proxy_on_upstream_connection_close", unknown);
        }
        flow
    }

    /// Closes the connection to the client: `on_downstream_connection_close`. Data fed afterwards are ignored.
    pub fn close(&mut self, by: ClosedBy) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.stream
                .notify("proxy_on_downstream_connection_close", by as u32);
        }
    }

    /// Returns the state of the client's side, [`Side::Request`], or of the upstream's; [`Flow::Reset`] if it is closed.
    pub fn flow(&mut self, side: Side) -> Flow {
        // A filter may close the connection in a tick or in a callback of another stream.
        if self.stream.is_reset() {
            self.close(ClosedBy::Local);
        }
        if self.is_closed {
            return Flow::Reset;
        }
        self.stream.flow(side)
    }

    /// Ends the connection, which the proxy closes if it is still open, and returns its outcome. The bodies are the data
    /// forwarded to the upstream and to the client.
    pub fn finish(mut self) -> Outcome {
        self.close(ClosedBy::Local);
        self.stream.end()
    }

    fn feed(&mut self, side: Side, event: Event) -> Flow {
        if !self.is_closed {
            self.stream.feed(side, event);
        }
        self.flow(side)
    }
}

impl Drop for Connection {
    /// Closes the connection; then the stream ends.
    fn drop(&mut self) {
        if !self.stream.has_ended() && !std::thread::panicking() {
            self.close(ClosedBy::Local);
        }
    }
}
