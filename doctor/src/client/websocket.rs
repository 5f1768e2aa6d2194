//! Holds a WebSocket to Streamlit: answers pings, joins fragments, notes how it ends.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::client::frame::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG};
use crate::client::{Connection, Failure};

/// An open WebSocket.
pub(crate) struct WebSocket {
    connection: Connection,
    /// The pings that were answered.
    pub(crate) pings: usize,
    /// True if a frame was compressed.
    pub(crate) was_compressed: bool,
    fragments: Vec<u8>,
}

/// How a WebSocket has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With a close frame and its code.
    Closed(Option<u16>),
    /// The connection broke.
    Cut,
}

impl WebSocket {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            pings: 0,
            was_compressed: false,
            fragments: Vec::new(),
        }
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<(), Failure> {
        self.connection
            .write(&Frame::of_client(opcode, payload))
            .await
    }

    /// Returns the next message; `Ok(None)` if none comes until then.
    ///
    /// # Errors
    ///
    /// How the WebSocket has ended.
    pub(crate) async fn message(&mut self, until: Instant) -> Result<Option<Vec<u8>>, Ended> {
        loop {
            while let Some((frame, used)) = Frame::parse(&self.connection.pending) {
                self.connection.pending.drain(..used);
                self.was_compressed |= frame.is_compressed;
                match frame.opcode {
                    PING => {
                        self.pings = self.pings.saturating_add(1);
                        let _ = self.send(PONG, &frame.payload).await;
                    }
                    CLOSE => return Err(Ended::Closed(frame.close_code())),
                    BINARY | CONTINUATION | 1 => {
                        self.fragments.extend_from_slice(&frame.payload);
                        if frame.is_last {
                            return Ok(Some(std::mem::take(&mut self.fragments)));
                        }
                    }
                    _ => {}
                }
            }
            if self.connection.pending.len() > MAX_MESSAGE {
                return Err(Ended::Cut);
            }
            match timeout_at(
                until,
                self.connection.read(until + Duration::from_secs(1), LONG),
            )
            .await
            {
                Err(_) => return Ok(None),
                Ok(Ok(true)) => {}
                Ok(Ok(false) | Err(_)) => return Err(Ended::Cut),
            }
        }
    }

    /// Closes with the handshake of RFC 6455, as far as the server takes part within a second.
    pub(crate) async fn close(mut self) {
        // 1001: going away, as a browser sends it when a page is left.
        let _ = self.send(CLOSE, &1001_u16.to_be_bytes()).await;
        let until = Instant::now() + Duration::from_secs(1);
        while let Ok(Some(_)) = self.message(until).await {}
    }
}

/// The protocol values that Streamlit's page sends: the protocol, and a word in the place of a token.
pub(crate) const PROTOCOL: &str = "streamlit, PLACEHOLDER_AUTH_TOKEN";

const LONG: Duration = Duration::from_secs(3600);

/// Streamlit's limit for a message is 200 MB; what the doctor reads is smaller.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;
