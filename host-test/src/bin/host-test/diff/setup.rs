//! Derives the setup of Envoy and the connection that gives a request the properties of its case.
//!
//! A case may give a request any property. Envoy has those that follow from its configuration or from the connection:
//! each property is set where Envoy takes it from, and a request with another property cannot be played.

use fluxlit_support::http1::{self, Content, Kind};
use host_test::case_file::{Peer, Request, TypedValue, Version};
use serde_json::{Map, Value, json};

/// The setup of a listener and of a connection to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct EnvoySetup {
    pub(super) peer: PeerKind,
    pub(super) tls: bool,
    /// The server name that a TLS client requests, if the case sets it.
    pub(super) server_name: Option<String>,
    /// The names in the certificate of the TLS client, if it has one.
    pub(super) client: Option<ClientNames>,
    /// Filter state by key.
    pub(super) filter_state: Vec<(String, String)>,
    /// Dynamic metadata by namespace.
    pub(super) metadata: Map<String, Value>,
    pub(super) route_metadata: Map<String, Value>,
    pub(super) listener_metadata: Map<String, Value>,
    pub(super) route_name: Option<String>,
    pub(super) virtual_host_name: Option<String>,
    /// A field that the request has on the wire but not in the case. Envoy removes it before the filters.
    pub(super) added_field: Option<&'static str>,
}

/// What Envoy knows about the peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum PeerKind {
    /// Its address and port.
    #[default]
    Known,
    /// An address that is not the connection's.
    Unknown,
    /// It is connected to a Unix socket.
    Unix,
}

/// The names in the certificate of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ClientNames {
    pub(super) dns: Option<String>,
    pub(super) uri: Option<String>,
}

impl EnvoySetup {
    /// Returns the setup that `request` needs.
    ///
    /// # Errors
    ///
    /// The reason why the request cannot be played: a property that Envoy cannot have.
    pub(super) fn of(request: &Request) -> Result<Self, String> {
        let mut setup = Self {
            peer: match request.peer {
                Peer::Ip(_) => PeerKind::Known,
                Peer::Unknown => PeerKind::Unknown,
                Peer::Unix => PeerKind::Unix,
            },
            tls: request.tls,
            added_field: added_field(request),
            ..Self::default()
        };
        for property in &request.properties {
            let path: Vec<&str> = property.path.iter().map(String::as_str).collect();
            setup.set(&path, &property.value).ok_or_else(|| {
                format!(
                    "Envoy cannot be given the property `{}` of that type",
                    path.join(".")
                )
            })?;
        }
        Ok(setup)
    }

    /// The server name that a TLS client requests, which is also the one in the certificate.
    pub(super) fn server_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or("localhost")
    }

    fn set(&mut self, path: &[&str], value: &TypedValue) -> Option<()> {
        match (path, value) {
            (["filter_state", key], TypedValue::Text(text)) => {
                self.filter_state.push(((*key).to_owned(), text.clone()));
            }
            (["metadata", "filter_metadata", namespace, key], value) => {
                put(&mut self.metadata, namespace, key, value)?;
            }
            (["xds", "route_metadata", "filter_metadata", namespace, key], value) => {
                put(&mut self.route_metadata, namespace, key, value)?;
            }
            (
                [
                    "xds",
                    "listener_metadata",
                    "filter_metadata",
                    namespace,
                    key,
                ],
                value,
            ) => {
                put(&mut self.listener_metadata, namespace, key, value)?;
            }
            (["xds", "route_name"] | ["route_name"], TypedValue::Text(text)) => {
                self.route_name = Some(text.clone());
            }
            (["xds", "virtual_host_name"], TypedValue::Text(text)) => {
                self.virtual_host_name = Some(text.clone());
            }
            (["connection", "requested_server_name"], TypedValue::Text(text)) if self.tls => {
                self.server_name = Some(text.clone());
            }
            (["connection", "mtls"], TypedValue::Bool(true)) if self.tls => {
                self.client.get_or_insert_default();
            }
            (["connection", "uri_san_peer_certificate"], TypedValue::Text(text)) if self.tls => {
                self.client.get_or_insert_default().uri = Some(text.clone());
            }
            (["connection", "dns_san_peer_certificate"], TypedValue::Text(text)) if self.tls => {
                self.client.get_or_insert_default().dns = Some(text.clone());
            }
            _ => return None,
        }
        Some(())
    }
}

/// Returns the field that the client adds to a request, because HTTP/1 could not find the end of the body without it.
fn added_field(request: &Request) -> Option<&'static str> {
    if request.http == Version::Http2 {
        return None;
    }
    let content = Content::of_request(request);
    let added = http1::added_field(&request.headers, &content, Kind::Request);
    added.map(|(name, _)| name)
}

/// Adds a value to metadata, which is a protobuf `Struct`: its numbers are doubles, and it has no bytes.
fn put(
    metadata: &mut Map<String, Value>,
    namespace: &str,
    key: &str,
    value: &TypedValue,
) -> Option<()> {
    let value = match value {
        TypedValue::Bool(value) => json!(value),
        TypedValue::Double(value) => json!(value),
        TypedValue::Text(text) => json!(text),
        _ => return None,
    };
    let namespace = metadata.entry(namespace).or_insert_with(|| json!({}));
    namespace.as_object_mut()?.insert(key.to_owned(), value);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: &str, want: &str) {
        let request: Request = serde_json::from_str(request).unwrap();
        let got = EnvoySetup::of(&request).err().unwrap_or_default();
        assert_eq!(got, want);
    }

    #[test]
    fn a_property_that_envoy_cannot_have_is_named() {
        check(
            r#"{"properties": [{"path": ["xds", "route_name"], "text": "r"}]}"#,
            "",
        );
        check(
            r#"{"tls": true, "properties": [{"path": ["connection", "mtls"], "bool": true}]}"#,
            "",
        );
        check(
            r#"{"properties": [{"path": ["connection", "mtls"], "bool": true}]}"#,
            "Envoy cannot be given the property `connection.mtls` of that type",
        );
        check(
            r#"{"properties": [{"path": ["request", "id"], "text": "x"}]}"#,
            "Envoy cannot be given the property `request.id` of that type",
        );
    }
}
