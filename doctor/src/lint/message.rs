//! Reads parts of messages of Envoy and of manifests.

use serde_json::Value;

/// Returns the last part of the name of a message, such as `HttpConnectionManager`; empty without `@type`.
pub(crate) fn kind_of(message: &Value) -> &str {
    let kind = message["@type"].as_str().unwrap_or_default();
    kind.rsplit(['.', '/']).next().unwrap_or_default()
}

/// Returns the items of an array; none if it is not an array.
pub(crate) fn items(value: &Value) -> std::slice::Iter<'_, Value> {
    value
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
}

/// Returns a string; empty if it is not one.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
