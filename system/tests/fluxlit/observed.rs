//! Reduces a response to what can be compared between two servers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use fluxlit_support::client::Client;
use fluxlit_support::wait::wait_until;

use crate::examples::{Example, Mounted, Page};
use crate::programs::{LIMIT, Program, Server};

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The parts that are compared and shown, by name.
    parts: BTreeMap<String, String>,
    /// The body, if it is too long to be shown.
    long_body: Option<String>,
}

/// The fields whose values are compared. Of the others, only whether and how often they occur.
const COMPARED: [&str; 9] = [
    "accept-ranges",
    "allow",
    "cache-control",
    "connection",
    "content-range",
    "content-type",
    "location",
    "sec-websocket-protocol",
    "vary",
];

/// A text that is longer is shown by its length.
const LONGEST: usize = 300;

/// If the status differs, only these parts are compared, because the others follow from it.
const WITH_ANOTHER_STATUS: [&str; 3] = ["body", "location", "status"];

impl Observed {
    /// Sends a request, and observes the response.
    pub(crate) fn of(server: &Server, request: &Mounted) -> Self {
        let Mounted { request, target } = request;
        let mut client = Client::connect(server.address).expect("a connection");
        let host = server.address;
        let length = match request.method {
            "POST" | "PUT" => format!("content-length: {}\r\n", request.body.len()),
            _ => String::new(),
        };
        let head = format!(
            "{} {target} HTTP/1.1\r\nhost: {host}\r\n{}{length}\r\n",
            request.method, request.fields
        );
        client.send(&(head + request.body)).expect("sent");
        let response = if request.fields.contains("upgrade") {
            let head = client.head().expect("a response");
            fluxlit_support::http1::Response {
                status: head.word(1).parse().expect("a status"),
                head,
                ..Default::default()
            }
        } else {
            client
                .response(request.method)
                .unwrap_or_else(|error| panic!("{target}: {error}: {}", server.log()))
        };

        let mut parts = BTreeMap::new();
        parts.insert("status".to_owned(), response.status.to_string());
        let own = server.address.to_string();
        let mut names: Vec<String> = response
            .head
            .fields()
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        names.sort();
        names.dedup();
        for name in names {
            let values = response.values(&name);
            let value = if COMPARED.contains(&name.as_str()) {
                values.join(", ").replace(&own, "HOST")
            } else if values.len() == 1 {
                "present".to_owned()
            } else {
                format!("{} times", values.len())
            };
            // Two servers may divide the same body differently.
            if name != "transfer-encoding" {
                parts.insert(name, value);
            }
        }
        if request.method == "HEAD" {
            parts.insert(
                "content-length".to_owned(),
                response.values("content-length").join(", "),
            );
        } else {
            // It follows from the body.
            parts.remove("content-length");
        }
        let text = without_random(&response.text()).replace(&own, "HOST");
        let is_long = text.len() > LONGEST;
        let shown = if is_long {
            format!("{} bytes", text.len())
        } else {
            text.clone()
        };
        parts.insert("body".to_owned(), shown);
        Self {
            parts,
            long_body: is_long.then_some(text),
        }
    }

    /// Opens a page as a browser does, by the WebSocket, lets its script run, and observes what it shows.
    pub(crate) fn of_page(server: &Server, example: &Example, page: &Page) -> Self {
        let mut client = Client::connect(server.address).expect("a connection");
        let (mount, host) = (example.mount, server.address);
        client
            .send(&format!(
                "GET {mount}/_stcore/stream HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 sec-websocket-protocol: streamlit\r\n\r\n"
            ))
            .expect("sent");
        let head = client.head().expect("a response");
        assert_eq!(head.word(1), "101", "{head:?}");
        // A binary frame, masked with zeros: the message `rerun_script` of Streamlit's protocol, without state.
        client
            .stream
            .get_mut()
            .write_all(&[0x82, 0x82, 0, 0, 0, 0, 0x5a, 0x00])
            .expect("sent");
        let mut received = Vec::new();
        let mut unread = Vec::new();
        let mut piece = [0; 16 * 1024];
        let shows = |received: &[u8]| {
            let text = String::from_utf8_lossy(received).into_owned();
            page.shows
                .iter()
                .filter(|expected| text.contains(**expected))
                .copied()
                .collect::<Vec<_>>()
        };
        while shows(&received).len() < page.shows.len() {
            match client.stream.read(&mut piece) {
                Ok(length) if length > 0 => {
                    received.extend_from_slice(&piece[..length]);
                    unread.extend_from_slice(&piece[..length]);
                    // The server closes the WebSocket of a client that does not respond to its pings.
                    while let Some((opcode, payload, rest)) = frame(&unread) {
                        if opcode == PING {
                            let stream = client.stream.get_mut();
                            stream.write_all(&pong(payload)).expect("sent");
                        }
                        unread = rest.to_vec();
                    }
                }
                other => panic!(
                    "{}: {other:?} after {:?}; {}",
                    example.name,
                    String::from_utf8_lossy(&received),
                    server.log()
                ),
            }
        }
        let shown = shows(&received).join(", ");
        Self {
            parts: [("shows".to_owned(), shown)].into(),
            long_body: None,
        }
    }

    /// Observes which of the texts that an example names the program has written.
    pub(crate) fn of_output(server: &Server, program: Program, example: &Example) -> Self {
        let is_written = |text: &&&str| server.log().contains(**text);
        if program == Program::FluxLit {
            let all = wait_until(LIMIT, || {
                example.writes.iter().all(|text| is_written(&text))
            });
            assert!(all, "{:?}: {}", example.writes, server.log());
        }
        let written = example.writes.iter().filter(is_written);
        let parts = written.map(|text| ((*text).to_owned(), "written".to_owned()));
        Self {
            parts: parts.collect(),
            long_body: None,
        }
    }

    /// Returns the parts that differ, with both values; empty for a part that is absent.
    pub(crate) fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let names: BTreeSet<&String> = self.parts.keys().chain(other.parts.keys()).collect();
        let value = |of: &Self, name: &str| of.parts.get(name).cloned().unwrap_or_default();
        let has_another_status = value(self, "status") != value(other, "status");
        let mut all: Vec<(String, String, String)> = names
            .into_iter()
            .filter(|name| !has_another_status || WITH_ANOTHER_STATUS.contains(&name.as_str()))
            .map(|name| (name.clone(), value(self, name), value(other, name)))
            .filter(|(_, one, other)| one != other)
            .collect();
        let shows_same = value(self, "body") == value(other, "body");
        if shows_same && self.long_body != other.long_body {
            all.push((
                "body".to_owned(),
                value(self, "body"),
                "another content".to_owned(),
            ));
        }
        all
    }
}

/// The opcode of a ping, RFC 6455 §5.5.2.
const PING: u8 = 9;

/// Splits a frame of a server off, RFC 6455 §5.2: its opcode, its payload and what follows; `None` if it is not complete.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match length {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u16::from_be_bytes(*length).into(), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        length => (length.into(), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((first & 0x0f, payload, rest))
}

/// Returns the response to a ping, masked with zeros. The payload of a ping is shorter than 126 bytes.
fn pong(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short payload");
    [&[0x8a, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// Replaces values that are different each time: when an example has stored something, and its tokens.
fn without_random(text: &str) -> String {
    let mut text = text.to_owned();
    for key in [r#""created_at":""#, r#""access_token":""#] {
        let Some((before, after)) = text.split_once(key) else {
            continue;
        };
        let (_, rest) = after.split_once('"').unwrap_or_default();
        text = format!("{before}{key}DIFFERENT\"{rest}");
    }
    text
}
