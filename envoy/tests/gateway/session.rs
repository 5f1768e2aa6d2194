//! Holds a Streamlit session over its WebSocket, as the front end does.
//!
//! Only two parts of Protocol Buffers are needed: a message that requests a run, and finding a field by its field numbers.

use std::net::{IpAddr, TcpStream};

use fluxlit_support::http1::Response;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket};

use crate::pair::{HOST, Server};
use crate::support::{connect, connect_from, exchange};

/// An open session, after its first run.
pub(crate) struct Session {
    socket: WebSocket<TcpStream>,
    /// The id to resume it, and to upload files into it.
    pub(crate) id: String,
    /// The response that opened it.
    pub(crate) opened: Response,
    /// The messages of the last run.
    sent: Vec<u8>,
}

impl Session {
    /// Opens a session with these positional values (protocol, token, session to resume) and further header lines, and
    /// runs the app once.
    pub(crate) fn open(server: Server<'_>, protocols: &str, lines: &str) -> Self {
        Self::open_on(connect(server.address), server, protocols, lines)
    }

    /// Like [`Self::open`], but connects from the local address `own`.
    pub(crate) fn open_from(own: IpAddr, server: Server<'_>, protocols: &str, lines: &str) -> Self {
        Self::open_on(connect_from(own, server.address), server, protocols, lines)
    }

    fn open_on(mut stream: TcpStream, server: Server<'_>, protocols: &str, lines: &str) -> Self {
        let lines = format!("sec-websocket-protocol: {protocols}\r\n{lines}");
        let opened = exchange(
            &mut stream,
            handshake(server, STREAM, HOST, &lines).as_bytes(),
            "GET",
        );
        assert_eq!(opened.status, 101, "{opened:?}");
        let mut session = Self {
            socket: WebSocket::from_raw_socket(stream, Role::Client, None),
            id: String::new(),
            opened,
            sent: Vec::new(),
        };
        session.run();
        session
    }

    /// Runs the app, and waits until it has finished.
    pub(crate) fn run(&mut self) {
        self.socket
            .send(Message::binary(RERUN))
            .expect("the request for a run is sent");
        self.sent.clear();
        loop {
            let message = match self.socket.read().expect("a message of the run") {
                Message::Binary(message) => message,
                Message::Ping(_) | Message::Pong(_) => continue,
                other => panic!("not a message of Streamlit: {other:?}"),
            };
            if let Some(id) = field(&message, &NEW_SESSION_ID) {
                self.id = String::from_utf8_lossy(id).into_owned();
            }
            self.sent.extend_from_slice(&message);
            if has(&message, SCRIPT_FINISHED) {
                return;
            }
        }
    }

    /// Returns true if the last run showed this text.
    pub(crate) fn shows(&self, text: &str) -> bool {
        self.sent
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    /// Returns the first word in the messages of the last run that has this prefix.
    pub(crate) fn find(&self, prefix: &str) -> Option<String> {
        let start = self
            .sent
            .windows(prefix.len())
            .position(|window| window == prefix.as_bytes())?;
        let word = self.sent[start..]
            .iter()
            .take_while(|octet| octet.is_ascii_alphanumeric() || b"/._-".contains(octet))
            .map(|octet| char::from(*octet))
            .collect();
        Some(word)
    }

    /// Waits for the end of the connection; returns the close frame, or `None` if there is none.
    pub(crate) fn closed(mut self) -> Option<CloseFrame> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame,
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Writes the handshake of a browser.
pub(crate) fn handshake(server: Server<'_>, path: &str, host: &str, lines: &str) -> String {
    format!(
        "GET {}{path} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n",
        server.base
    )
}

/// The path of the WebSocket, relative to the app.
pub(crate) const STREAM: &str = "/_stcore/stream";

/// The positional values of a front end that has no token and resumes nothing.
pub(crate) const NEW: &str = "streamlit, PLACEHOLDER_AUTH_TOKEN";

/// `BackMsg { rerun_script: ClientState {} }`.
const RERUN: &[u8] = &[11 << 3 | 2, 0];

/// `ForwardMsg.new_session.initialize.session_id`.
const NEW_SESSION_ID: [u64; 3] = [4, 1, 6];

/// `ForwardMsg.script_finished`.
const SCRIPT_FINISHED: u64 = 6;

/// Returns the field at a path of field numbers, each of them a message or a text.
fn field<'a>(message: &'a [u8], path: &[u64]) -> Option<&'a [u8]> {
    path.iter().try_fold(message, |message, number| {
        fields(message)
            .find(|(other, _)| other == number)
            .map(|(_, value)| value)
    })
}

fn has(message: &[u8], number: u64) -> bool {
    fields(message).any(|(other, _)| other == number)
}

/// Returns the fields of a message by number; the value of a numeric field is empty.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let tag = varint(&mut rest)?;
        let length = match tag & 7 {
            0 => varint(&mut rest).map(|_| 0)?,
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, after) = rest.split_at_checked(length)?;
        rest = after;
        Some((tag >> 3, value))
    })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (octet, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
