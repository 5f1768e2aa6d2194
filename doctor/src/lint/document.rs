//! Reads the documents that are linted: bootstraps, configuration dumps, resource files and filters of Envoy, and Kubernetes
//! manifests.
//!
//! A field of Envoy has two spellings, `use_remote_address` in files and in `/config_dump`, and `useRemoteAddress` in what
//! `istioctl proxy-config` prints. Envoy reads both, so documents of Envoy are changed to the first. Keys that are names of
//! filters or metadata stay as they are. A `TypedStruct` is replaced by the message that it contains.

use serde_json::{Map, Value};

use crate::lint::configuration::Configuration;

/// A document that can be linted.
#[derive(Debug, Clone)]
pub enum Document {
    /// A bootstrap, a dump of `/config_dump`, a file of resources, or a filter.
    Envoy(Box<Configuration>),
    /// A manifest for Kubernetes.
    Manifest(Manifest),
}

/// A Kubernetes object.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its kind, such as `WasmPlugin`.
    pub(crate) kind: String,
    /// Its `metadata.name`.
    pub(crate) name: String,
    /// The whole object.
    pub(crate) object: Value,
}

impl Manifest {
    /// Returns kind and name, as `kubectl` prints them.
    pub(crate) fn label(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    /// Returns `metadata.namespace`; `None` if the manifest leaves it to whoever applies it.
    pub(crate) fn namespace(&self) -> Option<&str> {
        let namespace = self.object["metadata"]["namespace"].as_str();
        namespace.filter(|namespace| !namespace.is_empty())
    }

    /// Returns who has defined its kind: several groups have a kind `Gateway`.
    pub(crate) fn group(&self) -> Group {
        let version = self.object["apiVersion"].as_str().unwrap_or_default();
        match version.split('/').next() {
            Some("networking.istio.io") => Group::Istio,
            Some("gateway.networking.k8s.io") => Group::GatewayApi,
            _ => Group::Other,
        }
    }

    /// Returns `spec`.
    pub(crate) fn spec(&self) -> &Value {
        &self.object["spec"]
    }
}

/// The API groups that matter for the meaning of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// `networking.istio.io`.
    Istio,
    /// `gateway.networking.k8s.io`.
    GatewayApi,
    /// Any other one.
    Other,
}

/// A text that is no configuration of Envoy and no manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// No document was found.
    #[error("{place}: the file is empty")]
    Empty {
        /// The name of the file.
        place: String,
    },
    /// Neither YAML nor JSON.
    #[error("{place}: neither YAML nor JSON: {message}")]
    Syntax {
        /// The name of the file.
        place: String,
        /// The error of the parser.
        message: String,
    },
    /// Another kind of document.
    #[error(
        "{place}: document {number} is no bootstrap of Envoy (`static_resources`), no response of its admin path \
         /config_dump (`configs`), no file of resources (`resources` with `@type`), no filter (`name` and `typed_config`) and \
         no Kubernetes manifest (`kind`): {content}. If it is a part of a bootstrap, insert it there, and check that file"
    )]
    Unknown {
        /// The name of the file.
        place: String,
        /// Which document of the file, from 1.
        number: usize,
        /// What it has instead.
        content: String,
    },
}

/// Reads every document of a file. `place` names the file in errors.
///
/// # Errors
///
/// If the text cannot be parsed, or if a document is of another kind.
pub fn read(place: &str, text: &str) -> Result<Vec<Document>, DocumentError> {
    let syntax = |message: String| DocumentError::Syntax {
        place: place.to_owned(),
        message,
    };
    let yaml = || serde_saphyr::from_multiple(text);
    // A dump can exceed the limits of the YAML parser, and is JSON.
    let values: Vec<Value> = if text.trim_start().starts_with('{') {
        let json = serde_json::from_str(text).map(|value| vec![value]);
        json.or_else(|error| yaml().map_err(|_| syntax(error.to_string())))?
    } else {
        yaml().map_err(|error| syntax(error.to_string()))?
    };
    let values = values.into_iter().filter(|value| !value.is_null());
    let mut documents = Vec::new();
    for (value, number) in values.zip(1..) {
        let kind = value.get("kind").and_then(Value::as_str);
        if let Some("List") = kind {
            let items = value["items"].as_array().cloned().unwrap_or_default();
            documents.extend(items.into_iter().filter_map(manifest));
            continue;
        }
        let content = content(&value);
        let is_manifest = kind.is_some() && value.get("apiVersion").is_some();
        if is_manifest {
            documents.extend(manifest(value));
        } else if let Some(configuration) = Configuration::read(&normalized(value)) {
            documents.push(Document::Envoy(Box::new(configuration)));
        } else {
            return Err(DocumentError::Unknown {
                place: place.to_owned(),
                number,
                content,
            });
        }
    }
    if documents.is_empty() {
        return Err(DocumentError::Empty {
            place: place.to_owned(),
        });
    }
    Ok(documents)
}

/// Says for an error what a document consists of.
fn content(value: &Value) -> String {
    let fields = value.as_object().filter(|fields| !fields.is_empty());
    let Some(fields) = fields else {
        return "it has no fields".to_owned();
    };
    let shown = fields.keys().take(SHOWN_FIELDS);
    let shown: Vec<String> = shown.map(|name| format!("`{name}`")).collect();
    let more = if fields.len() > SHOWN_FIELDS {
        ", …"
    } else {
        ""
    };
    format!("it has {}{more}", shown.join(", "))
}

fn manifest(object: Value) -> Option<Document> {
    let text = |pointer: &str| object.pointer(pointer)?.as_str().map(str::to_owned);
    Some(Document::Manifest(Manifest {
        kind: text("/kind")?,
        name: text("/metadata/name").unwrap_or_default(),
        object,
    }))
}

/// Returns a message of Envoy with field names in `snake_case`, and without `TypedStruct`.
pub(crate) fn normalized(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: Map<String, Value> = fields
                .into_iter()
                .map(|(name, value)| {
                    let name = snake_case(&name);
                    let value = if NAMED_ENTRIES.contains(&name.as_str()) {
                        with_own_names(value)
                    } else {
                        normalized(value)
                    };
                    (name, value)
                })
                .collect();
            message_of_typed_struct(fields)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(normalized).collect()),
        other => other,
    }
}

fn with_own_names(value: Value) -> Value {
    match value {
        Value::Object(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(name, value)| (name, normalized(value)))
                .collect(),
        ),
        other => normalized(other),
    }
}

fn message_of_typed_struct(mut fields: Map<String, Value>) -> Value {
    let is_typed_struct = fields
        .get("@type")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with(".TypedStruct"));
    if !is_typed_struct {
        return Value::Object(fields);
    }
    let kind = fields.remove("type_url").unwrap_or_default();
    let mut message = match fields.remove("value") {
        Some(Value::Object(message)) => message,
        _ => Map::new(),
    };
    message.insert("@type".to_owned(), kind);
    Value::Object(message)
}

fn snake_case(name: &str) -> String {
    let is_camel_case = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric());
    if !is_camel_case {
        return name.to_owned();
    }
    let mut snake = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// How many fields of an unknown document an error names.
const SHOWN_FIELDS: usize = 4;

/// Fields whose keys are names that the operator has chosen.
const NAMED_ENTRIES: [&str; 5] = [
    "typed_per_filter_config",
    "filter_metadata",
    "typed_filter_metadata",
    "typed_extension_protocol_options",
    "environment_variables",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn field_names_of_istioctl_are_those_of_envoy() {
        let read = normalized(json!({
            "useRemoteAddress": true,
            "@type": "type.googleapis.com/x",
            "typedPerFilterConfig": {"myFilter": {"isOptional": true}},
            "maxRequestHeadersKb": 60,
        }));
        let wanted = json!({
            "use_remote_address": true,
            "@type": "type.googleapis.com/x",
            "typed_per_filter_config": {"myFilter": {"is_optional": true}},
            "max_request_headers_kb": 60,
        });
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_typed_struct_is_its_message() {
        let read = normalized(json!({
            "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
            "type_url": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "value": {"config": {"failurePolicy": "FAIL_OPEN"}},
        }));
        let wanted = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {"failure_policy": "FAIL_OPEN"},
        });
        assert_eq!(read, wanted);
    }

    #[test]
    fn other_documents_are_errors() {
        for (text, wanted) in [
            ("", "the file is empty"),
            ("a: [", "neither YAML nor JSON"),
            ("{\"a\": ", "neither YAML nor JSON"),
            ("a: 1", "document 1 is no bootstrap"),
            ("a: 1", "(`kind`): it has `a`. If it is a part"),
            ("[a]", "it has no fields"),
            ("{}", "it has no fields"),
            (
                "{a: 1, b: 1, c: 1, d: 1, e: 1}",
                "it has `a`, `b`, `c`, `d`, …. If",
            ),
            ("name: x\ntyped_config: {}", "it has `name`, `typed_config`"),
            ("resources: [x.yaml]", "document 1 is no bootstrap"),
            (
                "kind: WasmPlugin\napiVersion: x\n---\na: 1",
                "document 2 is no bootstrap",
            ),
        ] {
            let error = read("file.yaml", text).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with("file.yaml: "), "{error}");
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
    }
}
