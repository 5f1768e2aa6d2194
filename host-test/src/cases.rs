//! What comes of a case in the filter under this host?
//!
//! A case is presented as Envoy would present it, see [`crate::envoy`], and what passed is written down as an upstream
//! and a client would see it. Whether that is right is for [`fluxlit_cases::Outcome::misses`] to say; the host knows no
//! policy, only the one configuration key that names where the listener records its peer.

use std::net::SocketAddr;

use fluxlit_cases::{
    Case, Exchange, Expect, Headers, HttpVersion, Outcome, Peer, Received, Reply, Request, Served,
};

use crate::envoy::{self, RequestHead};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::header_map::HeaderMap;
use crate::host::LogLine;
use crate::outcome::Message;
use crate::plugin::{Plugin, StartOptions};
use crate::property::Value;
use crate::stream::Side;

/// Why a case has no outcome. Any of these is a fault of the filter, or of the case's text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The filter trapped or did not return.
    #[error("the filter failed{}", log_text(logs))]
    Failed {
        /// What it logged in that stream.
        logs: Vec<LogLine>,
        /// How it failed.
        source: Failure,
    },
    /// The filter holds a message back, and nothing is left that could make it let go.
    #[error("the filter left the {} paused{}", sides(paused), log_text(logs))]
    Paused {
        /// The sides that wait.
        paused: Vec<Side>,
        /// What it logged in that stream.
        logs: Vec<LogLine>,
    },
    /// The stream ended without an answer to the client.
    #[error("the filter reset the stream{}", log_text(logs))]
    Reset {
        /// What it logged in that stream.
        logs: Vec<LogLine>,
    },
    /// A text of the case is not Latin-1, so no bytes correspond to it.
    #[error("`{0}` has a character above U+00FF")]
    Text(String),
}

/// Runs one case in a fresh VM.
///
/// # Errors
///
/// As [`enum@Error`] says. A refused configuration is an outcome, with what the filter logged as its message.
pub fn run(filter: &Filter, case: &Case) -> Result<Outcome, Error> {
    let options = StartOptions {
        plugin_configuration: case.config_text().into_bytes(),
        ..StartOptions::default()
    };
    let plugin = match filter.start(options) {
        Ok(plugin) => plugin,
        Err(refused) => {
            return match refused.failure {
                Some(source) => Err(Error::Failed {
                    logs: refused.logs,
                    source,
                }),
                None => Ok(Outcome::Refused(join_lines(&refused.logs))),
            };
        }
    };
    let recorded_under = case
        .config
        .get("peer_filter_state_key")
        .and_then(serde_json::Value::as_str);
    let exchanges = match &case.expect {
        Expect::Refused(_) => &[][..],
        Expect::Served(exchanges) => exchanges,
    };
    exchanges
        .iter()
        .map(|exchange| serve(&plugin, recorded_under, exchange))
        .collect::<Result<_, _>>()
        .map(Outcome::Served)
}

fn serve(
    plugin: &Plugin,
    recorded_under: Option<&str>,
    exchange: &Exchange,
) -> Result<Served, Error> {
    let request = &exchange.request;
    let peer = match request.peer {
        Peer::Ip(address) => envoy::Peer::Ip(SocketAddr::new(address, CLIENT_PORT)),
        Peer::Unix => envoy::Peer::Unix,
        Peer::Unknown => envoy::Peer::FromHeader,
    };
    let version = match request.http {
        HttpVersion::Http10 => "HTTP/1.0",
        HttpVersion::Http11 => "HTTP/1.1",
        HttpVersion::Http2 => "HTTP/2",
    };
    let mut properties = envoy::connection_properties(peer, request.tls)
        .with(&["request", "protocol"], Value::Text(version.to_owned()));
    if let Some(key) = recorded_under {
        properties = envoy::with_recorded_peer(properties, key, peer);
    }
    let mut stream = plugin.stream(properties);
    let trailers = envoy::trailers(borrow(&to_bytes(&request.trailers)?));
    let body = latin1(&request.body)?;
    let end_of_stream = body.is_empty() && trailers.is_empty();
    stream.request_headers(present_request(request)?, end_of_stream);
    if !body.is_empty() {
        stream.request_body(body, false);
    }
    if !trailers.is_empty() {
        stream.request_trailers(trailers);
    } else if !end_of_stream {
        stream.request_body(Vec::new(), true);
    }
    if stream.headers(Side::Request).is_some() {
        let answer = &exchange.answer;
        let fields = to_bytes(&answer.headers)?;
        let headers = envoy::response_headers(answer.status, borrow(&fields));
        let body = latin1(&answer.body)?;
        let end_of_stream = body.is_empty();
        stream.response_headers(headers, end_of_stream);
        if !end_of_stream {
            stream.response_body(body, false);
            stream.response_body(Vec::new(), true);
        }
    }
    let outcome = stream.finish();
    let logs = outcome.logs;
    if let Some(source) = outcome.failure {
        return Err(Error::Failed { logs, source });
    }
    if !outcome.paused.is_empty() {
        let paused = outcome.paused;
        return Err(Error::Paused { paused, logs });
    }
    match outcome.downstream {
        Some(downstream) if !outcome.is_reset => Ok(Served {
            upstream: outcome.upstream.as_ref().map(received),
            downstream: reply(&downstream),
        }),
        _ => Err(Error::Reset { logs }),
    }
}

/// Presents a request's headers. `Host` lines among the fields count as the request's host: HTTP/1 has Envoy join them
/// with a comma, HTTP/2 has it drop them in favour of `:authority`.
fn present_request(request: &Request) -> Result<HeaderMap, Error> {
    let (hosts, fields): (Vec<_>, Vec<_>) = to_bytes(&request.headers)?
        .into_iter()
        .partition(|(name, _)| name.eq_ignore_ascii_case(b"host"));
    let host = request.host.as_deref().map(latin1).transpose()?;
    let further = hosts.into_iter().map(|(_, value)| value);
    let hosts: Vec<Vec<u8>> = match request.http {
        HttpVersion::Http2 => host.into_iter().chain(further).take(1).collect(),
        HttpVersion::Http10 | HttpVersion::Http11 => host.into_iter().chain(further).collect(),
    };
    let host = (!hosts.is_empty()).then(|| hosts.join(&b","[..]));
    let head = RequestHead {
        method: &latin1(&request.method)?,
        target: &latin1(&request.target)?,
        host: host.as_deref(),
        is_tls: request.tls,
    };
    Ok(envoy::request_headers(head, borrow(&fields)))
}

fn received(message: &Message) -> Received {
    let pseudo = |name| message.headers.get(name).map(text);
    Received {
        method: pseudo(":method").unwrap_or_default(),
        target: pseudo(":path").unwrap_or_default(),
        host: pseudo(":authority"),
        headers: fields(&message.headers),
        trailers: fields(&message.trailers),
    }
}

fn reply(message: &Message) -> Reply {
    let status = message.headers.get(":status").map(text);
    Reply {
        status: status
            .and_then(|status| status.parse().ok())
            .unwrap_or_default(),
        headers: fields(&message.headers),
    }
}

fn fields(headers: &HeaderMap) -> Headers {
    headers
        .iter()
        .filter(|(name, _)| !name.starts_with(b":"))
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// Field lines as bytes.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn to_bytes(headers: &Headers) -> Result<Fields, Error> {
    headers
        .iter()
        .map(|(name, value)| Ok((latin1(name)?, latin1(value)?)))
        .collect()
}

fn borrow(fields: &Fields) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
}

fn latin1(text: &str) -> Result<Vec<u8>, Error> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)))
        .collect::<Result<_, _>>()
        .map_err(|_| Error::Text(text.to_owned()))
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn sides(paused: &[Side]) -> String {
    let names: Vec<&str> = paused
        .iter()
        .map(|side| match side {
            Side::Request => "request",
            Side::Response => "response",
        })
        .collect();
    names.join(" and the ")
}

fn join_lines(logs: &[LogLine]) -> String {
    let lines: Vec<&str> = logs.iter().map(|line| line.text.as_str()).collect();
    lines.join("\n")
}

fn log_text(logs: &[LogLine]) -> String {
    if logs.is_empty() {
        String::new()
    } else {
        format!(", having logged `{}`", join_lines(logs))
    }
}

/// Any port but 0, which would say that the address came from a header.
const CLIENT_PORT: u16 = 49152;
