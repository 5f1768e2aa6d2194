//! Defines the inputs of a case: requests, responses of the upstream and of call-outs, properties.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// A request as it arrives at the listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// The peer of the connection: an IP address, `unix`, or `unknown` for an address taken from a header.
    #[cfg_attr(test, schemars(with = "String"))]
    #[serde(skip_serializing_if = "Peer::is_default")]
    pub peer: Peer,
    /// True if the connection is TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: bool,
    /// The HTTP version on the wire.
    #[serde(skip_serializing_if = "is_default")]
    pub http: Version,
    /// The method.
    pub method: String,
    /// The request target or `:path`, as sent.
    pub target: String,
    /// The `Host` field or `:authority`; `null` for a request without one.
    pub host: Option<String>,
    /// Field lines in wire order; a name may repeat.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body, sent in the frames that the schedule defines.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// A file with the body, relative to the case file; in place of `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_file: Option<String>,
    /// The size of a frame in bytes: the body is sent in frames of this size, whatever the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_size: Option<std::num::NonZeroUsize>,
    /// The body in explicit frames: the last one ends the stream and may be empty. Not together with `body`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<String>,
    /// The whole request in HTTP/1 form, with the request line, in place of the keys that it contains. Its lines may end
    /// with a bare line feed. It is only split, not validated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// A file with such a message, relative to the case file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_file: Option<String>,
    /// Trailer field lines in wire order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<(String, String)>,
    /// Further properties of the stream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
}

/// The response of the upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Field lines in wire order; a name may repeat.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Milliseconds from the request to the response.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_ms: u64,
    /// The body, sent in the frames that the schedule defines.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// A file with the body, relative to the case file; in place of `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_file: Option<String>,
    /// The size of a frame in bytes: the body is sent in frames of this size, whatever the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_size: Option<std::num::NonZeroUsize>,
    /// The body in explicit frames: the last one ends the stream and may be empty. Not together with `body`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<String>,
    /// The whole response in HTTP/1 form, with the status line, in place of the keys that it contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// A file with such a message, relative to the case file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_file: Option<String>,
    /// Trailer field lines in wire order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<(String, String)>,
}

/// A property that a filter can read by its path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Property {
    /// The segments, such as `["source", "port"]`. A segment may contain dots.
    pub path: Vec<String>,
    /// The value with its type.
    #[serde(flatten)]
    pub value: TypedValue,
}

/// A typed value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TypedValue {
    /// One byte.
    Bool(bool),
    /// 8 bytes, IEEE 754.
    Double(f64),
    /// 8 bytes; durations and timestamps are nanoseconds in this form.
    Int(i64),
    /// A list of texts.
    List(Vec<String>),
    /// A serialized map.
    Map(Vec<(String, String)>),
    /// Bytes as Latin-1 text.
    Text(String),
    /// 8 bytes.
    Uint(u64),
}

/// A response to a call-out: an HTTP response, a failure, or the messages of a gRPC service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CallAnswer {
    /// Milliseconds from the call to the response.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_ms: u64,
    /// The status of an HTTP response; 200 by default.
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
    /// The way in which the call fails, in place of a response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<CallFailure>,
    /// The messages of a gRPC service. This key makes the response one of gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Vec<String>>,
    /// The gRPC status; 0 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    /// The gRPC message.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub grpc_message: String,
}

/// The way in which a call-out fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CallFailure {
    /// There is no response at all, not even a local one.
    NoHeaders,
    /// The connection is refused.
    Refused,
    /// The connection is reset.
    Reset,
    /// The response does not arrive before the timeout.
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

/// The peer of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Peer {
    /// An IP connection from this address.
    Ip(IpAddr),
    /// A Unix socket.
    Unix,
    /// A connection whose peer is unknown.
    Unknown,
}

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
            body_file: None,
            frame_size: None,
            frames: Vec::new(),
            message: None,
            message_file: None,
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
            delay_ms: 0,
            body: String::new(),
            body_file: None,
            frame_size: None,
            frames: Vec::new(),
            message: None,
            message_file: None,
            trailers: Vec::new(),
        }
    }
}

impl Default for Peer {
    /// An address for documentation, so that no peer is trusted by accident.
    fn default() -> Self {
        Self::Ip(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))
    }
}

impl Peer {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<String> for Peer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "unix" => Ok(Self::Unix),
            "unknown" => Ok(Self::Unknown),
            address => address
                .parse()
                .map(Self::Ip)
                .map_err(|_| format!("`{text}` is not an IP address, `unix` or `unknown`")),
        }
    }
}

impl From<Peer> for String {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Ip(address) => address.to_string(),
            Peer::Unix => "unix".to_owned(),
            Peer::Unknown => "unknown".to_owned(),
        }
    }
}

impl Version {
    /// Returns the name on the wire, such as `HTTP/1.1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
