//! What can a filter ask about a stream beside its headers, and in which bytes does the answer come?
//!
//! A path of segments joined by zero bytes leads to a value. Envoy's encodings: text and bytes raw, numbers 8 bytes
//! little-endian, a bool one byte, a map as a serialised header map. C++ modules end each segment with a zero byte,
//! Rust and Go modules only separate them: both are read. Segments may contain dots, so a path is never split at one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::abi::header_map::HeaderMap;

/// What a stream knows of its connection and surroundings. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Properties {
    /// By path, its segments joined by zero bytes.
    values: Arc<BTreeMap<Vec<u8>, Value>>,
    /// Values that any path finds whose segments, joined by dots, are the key.
    dotted: Arc<BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// A typed property.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One byte, 0 or 1.
    Bool(bool),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// 8 bytes, IEEE 754.
    Double(f64),
    /// 8 bytes. Durations and timestamps are nanoseconds in this form.
    Int(i64),
    /// A serialised header map.
    Map(HeaderMap),
    /// Raw UTF-8.
    Text(String),
    /// 8 bytes.
    Uint(u64),
}

impl Properties {
    /// Adds or replaces a value, as in `with(&["source", "address"], Value::Text("192.0.2.1:4711".into()))`.
    #[must_use]
    pub fn with(mut self, path: &[&str], value: Value) -> Self {
        Arc::make_mut(&mut self.values).insert(path.join("\0").into_bytes(), value);
        self
    }

    /// Adds or replaces a value whose path is only known as a text with dots, which may part segments or lie in one.
    pub(crate) fn with_dotted(mut self, path: &str, value: Vec<u8>) -> Self {
        Arc::make_mut(&mut self.dotted).insert(path.as_bytes().to_vec(), value);
        self
    }

    /// The value at a path, its segments joined by zero bytes, in Envoy's encoding.
    pub(crate) fn get(&self, path: &[u8]) -> Option<Vec<u8>> {
        if let Some(value) = self.values.get(path) {
            return Some(value.encode());
        }
        if self.dotted.is_empty() {
            return None;
        }
        let path: Vec<u8> = path
            .iter()
            .map(|byte| if *byte == 0 { b'.' } else { *byte })
            .collect();
        self.dotted.get(&path).cloned()
    }
}

impl Value {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Bool(value) => vec![u8::from(*value)],
            Self::Bytes(value) => value.clone(),
            Self::Double(value) => value.to_le_bytes().to_vec(),
            Self::Int(value) => value.to_le_bytes().to_vec(),
            Self::Map(map) => map.serialise(),
            Self::Text(value) => value.clone().into_bytes(),
            Self::Uint(value) => value.to_le_bytes().to_vec(),
        }
    }
}

/// Whether a path leads to a group of values, which has no form of its own. Measured in Envoy 1.40.
pub(crate) fn is_group(path: &[u8]) -> bool {
    const GROUPS: [&[u8]; 9] = [
        b"connection",
        b"destination",
        b"filter_state",
        b"request",
        b"response",
        b"source",
        b"upstream",
        b"upstream_filter_state",
        b"xds",
    ];
    GROUPS.contains(&path)
}

/// A path as a module passed it, with its segments only separated by zero bytes.
pub(crate) fn separated(path: &[u8]) -> &[u8] {
    path.strip_suffix(&[0]).unwrap_or(path)
}

/// A property of the messages themselves: `request.path`, `request.headers.NAME`, `response.code` and their kin.
pub(crate) fn of_messages(
    path: &[u8],
    request: Option<&HeaderMap>,
    response: Option<&HeaderMap>,
) -> Option<Vec<u8>> {
    let path: Vec<&[u8]> = path.split(|byte| *byte == 0).collect();
    let field = |name| request?.get(name).map(<[u8]>::to_vec);
    match path.as_slice() {
        [b"request", b"path"] => field(":path"),
        [b"request", b"url_path"] => {
            let target = field(":path")?;
            Some(target.split(|byte| *byte == b'?').next()?.to_vec())
        }
        [b"request", b"query"] => {
            let target = field(":path")?;
            let start = target.iter().position(|byte| *byte == b'?');
            Some(start.map_or_else(Vec::new, |start| target[start + 1..].to_vec()))
        }
        [b"request", b"host"] => field(":authority"),
        [b"request", b"method"] => field(":method"),
        [b"request", b"scheme"] => field(":scheme"),
        [b"request", b"id"] => field("x-request-id"),
        [b"request", b"referer"] => field("referer"),
        [b"request", b"useragent"] => field("user-agent"),
        [b"request", b"headers"] => Some(request?.serialise()),
        [b"request", b"headers", name] => request?.get_bytes(name).map(<[u8]>::to_vec),
        [b"response", b"code"] => {
            let status = std::str::from_utf8(response?.get(":status")?).ok()?;
            Some(Value::Int(status.parse().ok()?).encode())
        }
        [b"response", b"headers"] => Some(response?.serialise()),
        [b"response", b"headers", name] => response?.get_bytes(name).map(<[u8]>::to_vec),
        _ => None,
    }
}
