//! Which header names may a setting list?

use crate::config_error::ConfigError;
use crate::forwarded::is_token_octet;

/// Reads a list of header names into lower case. `refuse` gives a setting's own reason not to accept a name.
pub(crate) fn read_names(
    setting: &str,
    written: Vec<String>,
    refuse: impl Fn(&str) -> Option<&'static str>,
    errors: &mut Vec<ConfigError>,
) -> Vec<String> {
    let mut read = Vec::with_capacity(written.len());
    for value in written {
        let name = value.to_ascii_lowercase();
        let is_token = !name.is_empty() && name.bytes().all(is_token_octet);
        let reason = if !is_token {
            Some("is not a header name")
        } else if UNTOUCHABLE.contains(&name.as_str()) {
            Some("belongs to the message or the connection and cannot be listed")
        } else {
            refuse(&name)
        };
        match reason {
            None => read.push(name),
            Some(reason) => errors.push(ConfigError::HeaderName {
                setting: setting.to_owned(),
                value,
                reason,
            }),
        }
    }
    read
}

/// ConfigReader that frame the message or belong to one hop, RFC 9110 §7.6.1 and RFC 9112 §6, and `Host`.
const UNTOUCHABLE: [&str; 9] = [
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
