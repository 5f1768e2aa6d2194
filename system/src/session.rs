//! Opens a session of a Streamlit app on a WebSocket, as the page of the app does.

use std::io;

use prost::Message as _;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::visitor::Connection;

/// An open session.
pub struct Session {
    socket: WebSocket<Box<dyn Connection>>,
    /// The id by which uploads and later WebSockets name the session.
    pub id: String,
    /// The messages of the last run.
    messages: Vec<u8>,
}

impl Session {
    /// Asks for a run of the app on a WebSocket whose handshake is complete, and waits for the message that begins the session.
    ///
    /// # Errors
    ///
    /// If the WebSocket ends first, or is silent for too long.
    pub fn begin(connection: Box<dyn Connection>) -> io::Result<Self> {
        let mut session = Self {
            socket: WebSocket::from_raw_socket(connection, Role::Client, None),
            id: String::new(),
            messages: Vec::new(),
        };
        session.request_run()?;
        while session.id.is_empty() {
            session.message()?;
        }
        Ok(session)
    }

    /// Waits until the app has run; returns the first word in its messages that has this prefix.
    ///
    /// # Errors
    ///
    /// If the WebSocket ends first, is silent for too long, or no message has the word.
    pub fn find(&mut self, prefix: &str) -> io::Result<String> {
        while !self.message()? {}
        let at = self
            .messages
            .windows(prefix.len())
            .position(|window| window == prefix.as_bytes())
            .ok_or_else(|| io::Error::other(format!("no message has {prefix:?}")))?;
        let is_word = |octet: &u8| octet.is_ascii_alphanumeric() || b"/._-".contains(octet);
        let word = self.messages.iter().skip(at).copied();
        Ok(word.take_while(is_word).map(char::from).collect())
    }

    /// Waits for the end of the WebSocket; returns the code of the close frame, RFC 6455 §7.4.
    ///
    /// # Errors
    ///
    /// If it ends without a close frame, or with one that has no code.
    pub fn close_code(mut self) -> io::Result<u16> {
        loop {
            match self.socket.read().map_err(io::Error::other)? {
                Message::Close(Some(frame)) => return Ok(frame.code.into()),
                Message::Close(None) => {
                    return Err(io::Error::other("a close frame without a code"));
                }
                _ => {}
            }
        }
    }

    fn request_run(&mut self) -> io::Result<()> {
        let request = BackMsg {
            rerun_script: Some(ClientState {}),
        };
        let request = Message::binary(request.encode_to_vec());
        self.socket.send(request).map_err(io::Error::other)
    }

    /// Reads a message; returns true if the run has finished.
    fn message(&mut self) -> io::Result<bool> {
        let message = match self.socket.read().map_err(io::Error::other)? {
            Message::Binary(message) => message,
            Message::Ping(_) | Message::Pong(_) => return Ok(false),
            other => return Err(io::Error::other(format!("unexpected: {other:?}"))),
        };
        self.messages.extend_from_slice(&message);
        let read = ForwardMsg::decode(message).map_err(io::Error::other)?;
        if let Some(initialize) = read.new_session.and_then(|session| session.initialize) {
            self.id = initialize.session_id;
        }
        Ok(read.script_finished.is_some())
    }
}

/// The part of Streamlit's `ForwardMsg` that is read.
#[derive(Clone, PartialEq, prost::Message)]
struct ForwardMsg {
    #[prost(message, optional, tag = "4")]
    new_session: Option<NewSession>,
    /// How the script has ended.
    #[prost(int32, optional, tag = "6")]
    script_finished: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NewSession {
    #[prost(message, optional, tag = "1")]
    initialize: Option<Initialize>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Initialize {
    #[prost(string, tag = "6")]
    session_id: String,
}

/// The part of Streamlit's `BackMsg` that is sent.
#[derive(Clone, PartialEq, prost::Message)]
struct BackMsg {
    #[prost(message, optional, tag = "11")]
    rerun_script: Option<ClientState>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ClientState {}
