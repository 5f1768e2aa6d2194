//! Parses the header names that a setting lists.

use crate::config_error::ConfigError;
use crate::header::{is_same_name, is_token_octet};

/// Parses a list of header names to lower case. `reject` returns the setting's own reason not to accept a name.
pub(crate) fn parse_names(
    setting: &str,
    written: Vec<String>,
    reject: impl Fn(&str) -> Option<&'static str>,
    errors: &mut Vec<ConfigError>,
) -> Vec<String> {
    let mut names = Vec::with_capacity(written.len());
    for value in written {
        let name = value.to_ascii_lowercase();
        let is_token = !name.is_empty() && name.bytes().all(is_token_octet);
        let reason = if !is_token {
            Some("is not a header name")
        } else if is_not_listable(&name) {
            Some("belongs to the message or the connection and cannot be listed")
        } else {
            reject(&name)
        };
        match reason {
            None => names.push(name),
            Some(reason) => errors.push(ConfigError::HeaderName {
                setting: setting.to_owned(),
                value,
                reason,
            }),
        }
    }
    names
}

/// Returns true for a name that must not be listed. A name with underscores also stands for the name with hyphens.
fn is_not_listable(name: &str) -> bool {
    NOT_LISTABLE
        .iter()
        .any(|listed| is_same_name(listed.as_bytes(), name.as_bytes()))
}

/// Fields that frame the message or belong to one hop, RFC 9110 §7.6.1 and RFC 9112 §6, and `Host`.
const NOT_LISTABLE: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
