//! Stores the properties that a filter can read besides headers, and encodes them as Envoy does.
//!
//! A path consists of segments joined by zero bytes. Envoy's encodings: text and bytes are raw, numbers are 8 bytes
//! little-endian, a bool is one byte, a map is a serialized header map. C++ modules end each segment with a zero byte;
//! Rust and Go modules only separate them: both are accepted. Segments may contain dots, so a path is never split at one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::header_map::HeaderMap;

/// Properties of a stream and its connection. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Properties {
    /// Values by path; the segments are joined by zero bytes.
    values: Arc<BTreeMap<Vec<u8>, Value>>,
    /// Values by path text; a path matches if its segments joined by dots equal the key.
    dotted: Arc<BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// A typed property value.
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
    /// A serialized header map.
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

    /// Adds or replaces a value whose path is given as text with dots, where a dot may separate segments or be part of one.
    pub(crate) fn with_dotted(mut self, path: &str, value: Vec<u8>) -> Self {
        Arc::make_mut(&mut self.dotted).insert(path.as_bytes().to_vec(), value);
        self
    }

    /// Returns the value at a path, whose segments are joined by zero bytes, in Envoy's encoding.
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
            Self::Map(map) => map.serialize(),
            Self::Text(value) => value.clone().into_bytes(),
            Self::Uint(value) => value.to_le_bytes().to_vec(),
        }
    }
}

/// Returns true if a path names a group of values, which cannot be encoded as one value. Measured in Envoy 1.40.
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

/// Removes the zero byte that some modules put after the last segment of a path.
pub(crate) fn strip_terminator(path: &[u8]) -> &[u8] {
    path.strip_suffix(&[0]).unwrap_or(path)
}
