//! What comes to a filter from outside: requests, answers of the upstream, answers to call-outs, facts?

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::latin1;
use crate::call_out::{self, GrpcEvent};
use crate::envoy;
use crate::header_map::HeaderMap;
use crate::property::Value;

/// A request as it arrives at the listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// The other end of the connection: an IP address, `unix`, or `unknown` for an address taken from a header.
    #[cfg_attr(test, schemars(with = "String"))]
    #[serde(skip_serializing_if = "Peer::is_default")]
    pub peer: Peer,
    /// Whether the connection is TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: bool,
    /// The HTTP version on the wire.
    #[serde(skip_serializing_if = "is_default")]
    pub http: Version,
    /// The method.
    pub method: String,
    /// The request target, or `:path`, as sent.
    pub target: String,
    /// The `Host` field, or `:authority`; `null` for a request without one.
    pub host: Option<String>,
    /// Field lines in wire order; a name may repeat.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body, which is sent in the frames that the schedule asks for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The body in frames of its own: the last one ends the stream, and may be empty. Not together with `body`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<String>,
    /// Trailer field lines in wire order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<(String, String)>,
    /// What the stream knows beside this.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
}

/// What the upstream answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Field lines in wire order; a name may repeat.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body, which is sent in the frames that the schedule asks for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The body in frames of its own: the last one ends the stream, and may be empty. Not together with `body`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<String>,
    /// Trailer field lines in wire order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<(String, String)>,
}

/// A fact that a filter can ask for by a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Property {
    /// The segments, such as `["source", "port"]`. A segment may contain dots.
    pub path: Vec<String>,
    /// The value with its type.
    #[serde(flatten)]
    pub value: Typed,
}

/// A typed value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Typed {
    /// One byte.
    Bool(bool),
    /// 8 bytes, IEEE 754.
    Double(f64),
    /// 8 bytes; durations and timestamps are nanoseconds in this form.
    Int(i64),
    /// A list of texts.
    List(Vec<String>),
    /// A serialised map.
    Map(Vec<(String, String)>),
    /// Bytes as Latin-1 text.
    Text(String),
    /// 8 bytes.
    Uint(u64),
}

/// An answer to a call-out: a response, a failure, or what a gRPC service says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CallAnswer {
    /// Milliseconds after the call.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_ms: u64,
    /// The status of an HTTP response; 200 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Headers of an HTTP response, or initial metadata of a gRPC stream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body of an HTTP response.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Trailers of an HTTP response, or trailing metadata of a gRPC stream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<(String, String)>,
    /// It fails instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<Failing>,
    /// The messages of a gRPC service, which makes this an answer of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Vec<String>>,
    /// How the gRPC service ends; 0 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    /// The text beside it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub grpc_message: String,
}

/// How a call-out fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Failing {
    /// There is no response at all, not even one that says so.
    NoHeaders,
    /// Nobody listens.
    Refused,
    /// The connection breaks.
    Reset,
    /// The response does not come in time.
    TimeOut,
}

/// An HTTP version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Version {
    /// HTTP/1.0.
    #[serde(rename = "1.0")]
    Http10,
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "1.1")]
    Http11,
    /// HTTP/2.
    #[serde(rename = "2")]
    Http2,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Peer(pub envoy::Peer);

impl Default for Request {
    fn default() -> Self {
        Self {
            peer: Peer::default(),
            tls: false,
            http: Version::default(),
            method: "GET".to_owned(),
            target: "/".to_owned(),
            host: Some("app.example".to_owned()),
            headers: Vec::new(),
            body: String::new(),
            frames: Vec::new(),
            trailers: Vec::new(),
            properties: Vec::new(),
        }
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: String::new(),
            frames: Vec::new(),
            trailers: Vec::new(),
        }
    }
}

impl Default for Peer {
    /// An address for documentation, so that nothing is trusted by accident.
    fn default() -> Self {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        Self(envoy::Peer::Ip(SocketAddr::new(address, CLIENT_PORT)))
    }
}

impl Peer {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<String> for Peer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let peer = match text.as_str() {
            "unix" => envoy::Peer::Unix,
            "unknown" => envoy::Peer::FromHeader,
            address => {
                let address: IpAddr = address
                    .parse()
                    .map_err(|_| format!("`{text}` is not an IP address, `unix` or `unknown`"))?;
                envoy::Peer::Ip(SocketAddr::new(address, CLIENT_PORT))
            }
        };
        Ok(Self(peer))
    }
}

impl From<Peer> for String {
    fn from(peer: Peer) -> Self {
        match peer.0 {
            envoy::Peer::Ip(address) => address.ip().to_string(),
            envoy::Peer::Unix => "unix".to_owned(),
            envoy::Peer::FromHeader => "unknown".to_owned(),
        }
    }
}

impl Version {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

impl Typed {
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Double(value) => Value::Double(*value),
            Self::Int(value) => Value::Int(*value),
            Self::List(items) => {
                let mut map = HeaderMap::default();
                for item in items {
                    map.add_exactly(&latin1::bytes(item), b"");
                }
                Value::Map(map)
            }
            Self::Map(lines) => {
                let mut map = HeaderMap::default();
                for (name, value) in latin1::fields(lines) {
                    map.add_exactly(&name, &value);
                }
                Value::Map(map)
            }
            Self::Text(text) => Value::Bytes(latin1::bytes(text)),
            Self::Uint(value) => Value::Uint(*value),
        }
    }
}

impl CallAnswer {
    pub(super) fn to_answer(&self) -> call_out::DelayedAnswer {
        let answer = match (self.fails, &self.grpc) {
            (Some(Failing::NoHeaders), _) => call_out::Answer::NoHeaders,
            (Some(Failing::Refused), _) => call_out::Answer::Refused,
            (Some(Failing::Reset), _) => call_out::Answer::Reset,
            (Some(Failing::TimeOut), _) => call_out::Answer::TimedOut,
            (None, Some(messages)) => call_out::Answer::Grpc(self.grpc_events(messages)),
            (None, None) => call_out::Answer::Http {
                headers: envoy::response_headers(
                    self.status.unwrap_or(200),
                    latin1::fields(&self.headers)
                        .iter()
                        .map(|(name, value)| (name.as_slice(), value.as_slice())),
                ),
                body: latin1::bytes(&self.body),
                trailers: latin1::map(&self.trailers),
            },
        };
        call_out::DelayedAnswer {
            delay: Duration::from_millis(self.delay_ms),
            answer,
        }
    }

    fn grpc_events(&self, messages: &[String]) -> Vec<GrpcEvent> {
        let mut events = vec![GrpcEvent::InitialMetadata(latin1::map(&self.headers))];
        events.extend(
            messages
                .iter()
                .map(|message| GrpcEvent::Message(latin1::bytes(message))),
        );
        events.push(GrpcEvent::TrailingMetadata(latin1::map(&self.trailers)));
        events.push(GrpcEvent::Close {
            status: self.grpc_status.unwrap_or(0),
            message: self.grpc_message.clone(),
        });
        events
    }
}

/// The services that a plugin may call, with their answers in order.
pub(super) fn to_upstreams(answers: &BTreeMap<String, Vec<CallAnswer>>) -> Vec<call_out::Upstream> {
    answers
        .iter()
        .map(|(name, answers)| call_out::Upstream {
            name: name.clone(),
            answers: answers.iter().map(CallAnswer::to_answer).collect(),
        })
        .collect()
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Any port but 0, which would say that the address came from a header.
const CLIENT_PORT: u16 = 49152;
